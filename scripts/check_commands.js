// Documentation must not drift. Every command in README, CONTRIBUTING, CHANGELOG and docs is checked here, in blocks of sh and in
// inline code: npm scripts and `glimpse` commands exist, options are known, files that a command names are there. Commands that
// are marked `# runs` are executed. Of one marked `# shows`, the block of text behind it must stand in what it prints: its lines in
// that order, where `…` stands for anything.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';

const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'));
const pages = readdirSync('docs', { recursive: true }).filter((name) => name.endsWith('.md'));
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
  const isInner = args[0] === 'onnx' || (args[0] === 'bench' && ['compare', 'plot', 'report'].includes(args[1]));
  const path = isInner ? args.slice(0, 2) : args.slice(0, 1);
  const text = helpOf(path);
  if (!text.startsWith(`Usage: glimpse ${path.join(' ')} `)) throw new Error(`glimpse has no command ${path.join(' ')}`);
  for (const option of args.filter((word) => word.startsWith('--')))
    if (!new RegExp(`${option}\\b(?!-)`).test(text)) throw new Error(`glimpse ${path.join(' ')} has no option ${option}`);
}

/** The commands of a page: those of its sh blocks, with the note behind each and the text block below, and those in inline code. */
function commandsOf(text) {
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```(?:\n\n```text\n([\s\S]*?)^```)?/gm)].flatMap(([, block, shown]) =>
    block
      .replace(/\\\n\s*/g, ' ')
      .split('\n')
      .map((line) => ({ line, shown })),
  );
  const inline = [...text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/`((?:npx |npm run |node |glimpse )[^`\n]*)`/g)].map(([, command]) => command);
  return [...blocks, ...inline.map((line) => ({ line, shown: undefined }))].map(({ line, shown }) => {
    const [command, note = ''] = line.split(' #').map((part) => part.trim());
    return { words: command.split(/\s+/).filter(Boolean), runs: note === 'runs' || note === 'shows', shown: note === 'shows' ? (shown ?? '') : null };
  });
}

/** Throws with the first line that is not printed where it should be. */
function checkShown(shown, printed) {
  const lines = printed.split('\n').map((line) => line.trimEnd());
  let at = 0;
  for (const wanted of shown.trimEnd().split('\n')) {
    if (wanted.trim() === '…') continue;
    const pattern = new RegExp(
      `^${wanted
        .trimEnd()
        .split('…')
        .map((piece) => piece.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
        .join('.*')}$`,
    );
    const found = lines.findIndex((line, i) => i >= at && pattern.test(line));
    if (found < 0) throw new Error(`does not print "${wanted}" ${at > 0 ? `behind "${lines[at - 1]}"` : ''}; it prints\n${printed}`);
    at = found + 1;
  }
}

rmSync('out/exercises', { recursive: true, force: true }); // a sheet is written once, then judged
let checked = 0;
let ran = 0;
for (const file of files) {
  for (const { words, runs, shown } of commandsOf(readFileSync(file, 'utf8'))) {
    if (words.length === 0) continue;
    try {
      check(words);
    } catch (error) {
      throw new Error(`${file}: "${words.join(' ')}": ${error.stderr || error.message}`);
    }
    checked++;
    if (!runs) continue;
    if (words[0] !== 'npx' || words[1] !== 'glimpse') throw new Error(`${file}: "${words.join(' ')}" cannot be marked as run here`);
    const { status, stdout } = spawnSync(process.execPath, ['bin/glimpse.js', ...words.slice(2)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
    if (status !== 0 && shown === null) throw new Error(`${file}: "${words.join(' ')}" ended with ${status}`);
    if (shown !== null) {
      try {
        checkShown(shown, stdout);
      } catch (error) {
        throw new Error(`${file}: "${words.join(' ')}" ${error.message}`);
      }
    }
    ran++;
  }
}
console.log(`${checked} commands in ${files.join(', ')} are sound; ${ran} of them were run`);
