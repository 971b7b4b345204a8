// Documentation must not drift. Every command in README, CONTRIBUTING, CHANGELOG and docs is checked here, in blocks of sh and in
// inline code: npm scripts and `glimpse` commands exist, options are known, files that a command names are there. Commands that
// are marked `# runs` are executed.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';

const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'));
const pages = readdirSync('docs').filter((name) => name.endsWith('.md'));
const files = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'bench/RESULTS.md', ...pages.map((name) => `docs/${name}`)];
const help = new Map();

/** The help of a command of glimpse; throws when there is no such command. */
function helpOf(path) {
  const key = path.join(' ');
  if (!help.has(key)) help.set(key, execFileSync(process.execPath, ['bin/glimpse.js', ...path, '--help'], { encoding: 'utf8', stdio: 'pipe' }));
  return help.get(key);
}

/** Throws with the reason when a command could not be given. */
function check(words) {
  if (words[0] === 'npm' && words[1] === 'run' && !(words[2] in scripts)) throw new Error(`npm has no script "${words[2]}"`);
  const named = words.filter((word) => /^(test|scripts|examples)\/[\w./-]+\.(ts|js)$/.test(word));
  for (const file of ['npx', 'node'].includes(words[0]) ? named : []) if (!existsSync(file)) throw new Error(`there is no file ${file}`);
  const args = words[0] === 'npx' && words[1] === 'glimpse' ? words.slice(2) : words[0] === 'glimpse' ? words.slice(1) : null;
  if (args === null || args[0] === undefined) return;
  const path = args[0] === 'onnx' ? args.slice(0, 2) : args.slice(0, 1);
  const text = helpOf(path);
  if (!text.startsWith(`Usage: glimpse ${path.join(' ')} `)) throw new Error(`glimpse has no command ${path.join(' ')}`);
  for (const option of args.filter((word) => word.startsWith('--')))
    if (!new RegExp(`${option}\\b(?!-)`).test(text)) throw new Error(`glimpse ${path.join(' ')} has no option ${option}`);
}

/** The commands of a page: those of its sh blocks, with the note behind each, and those in inline code. */
function commandsOf(text) {
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```/gm)].flatMap(([, block]) => block.replace(/\\\n\s*/g, ' ').split('\n'));
  const inline = [...text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/`((?:npx |npm run |node |glimpse )[^`\n]*)`/g)].map(([, command]) => command);
  return [...blocks, ...inline].map((line) => {
    const [command, note = ''] = line.split(' #').map((part) => part.trim());
    return { words: command.split(/\s+/).filter(Boolean), runs: note === 'runs' };
  });
}

let checked = 0;
let ran = 0;
for (const file of files) {
  for (const { words, runs } of commandsOf(readFileSync(file, 'utf8'))) {
    if (words.length === 0) continue;
    try {
      check(words);
    } catch (error) {
      throw new Error(`${file}: "${words.join(' ')}": ${error.stderr || error.message}`);
    }
    checked++;
    if (!runs) continue;
    if (words[0] !== 'npx' || words[1] !== 'glimpse') throw new Error(`${file}: "${words.join(' ')}" cannot be marked as run here`);
    execFileSync(process.execPath, ['bin/glimpse.js', ...words.slice(2)], { stdio: ['ignore', 'ignore', 'inherit'] });
    ran++;
  }
}
console.log(`${checked} commands in ${files.join(', ')} are sound; ${ran} of them were run`);
