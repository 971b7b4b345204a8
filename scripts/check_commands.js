// Documentation must not drift: every `glimpse …` command and every `npm run …` in README and docs is checked here. Commands
// exist, their options are known, and those marked `# runs` in a sh block are executed.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

const scripts = JSON.parse(readFileSync('package.json', 'utf8')).scripts;
const files = [
  'README.md',
  ...readdirSync('docs')
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];
const help = new Map();

function helpOf(path) {
  const key = path.join(' ');
  if (!help.has(key)) help.set(key, execFileSync(process.execPath, ['bin/glimpse.js', ...path, '--help'], { encoding: 'utf8' }));
  return help.get(key);
}

let checked = 0;
for (const file of files) {
  for (const [, block] of readFileSync(file, 'utf8').matchAll(/```sh\n([\s\S]*?)```/g)) {
    for (const line of block.replace(/\\\n\s*/g, ' ').split('\n')) {
      const [command, note = ''] = line.split('#').map((part) => part.trim());
      if (!command) continue;
      const words = command.split(/\s+/);
      if (words[0] === 'npm' && words[1] === 'run' && !(words[2] in scripts)) throw new Error(`${file}: npm has no script "${words[2]}"`);
      if (words[0] === 'npx' && words[1] === 'glimpse') {
        const path = words[2] === 'onnx' ? ['onnx', words[3]] : [words[2]];
        const text = helpOf(path);
        for (const option of words.filter((word) => word.startsWith('--')))
          if (!text.includes(option)) throw new Error(`${file}: glimpse ${path.join(' ')} has no option ${option}`);
        if (note === 'runs') execFileSync(process.execPath, ['bin/glimpse.js', ...words.slice(2)], { stdio: ['ignore', 'ignore', 'inherit'] });
      }
      checked++;
    }
  }
}
console.log(`${checked} commands in ${files.join(', ')} are sound`);
