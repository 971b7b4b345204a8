/** Advice can be followed: every function, option, command, script and variable that a text of the program names exists. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import ts from 'typescript';
import { beforeAll, describe, expect, test } from 'vitest';
import { glimpse } from './support.ts';

const ROOT = join(import.meta.dirname, '..');
const FILES = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'));

/** Options of other programs whose commands are given as advice. */
const FOREIGN_OPTIONS = ['--omit', '--needed', '--prefix', '--data-binary', '--build', '--bind-to', '--mpi', '--cpus-per-task'];

interface Text {
  file: string;
  line: number;
  text: string;
}

interface Known {
  texts: Text[];
  /** What a program can import, ops included. */
  exported: Set<string>;
  /** Public methods by exported class, and the classes that exported functions return. */
  methods: Map<string, Set<string>>;
  /** Environment variables that are read. */
  variables: Set<string>;
}

const parse = (file: string) => ts.createSourceFile(file, readFileSync(join(ROOT, 'src', file), 'utf8'), ts.ScriptTarget.Latest, true);

/** Names that a module hands out, its own and those of other modules. */
function exportsOf(file: string): string[] {
  const names: string[] = [];
  for (const node of parse(file).statements) {
    if (ts.isExportDeclaration(node) && node.exportClause && ts.isNamedExports(node.exportClause))
      names.push(...node.exportClause.elements.map(({ name }) => name.text));
    const own = ts.canHaveModifiers(node) && ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);
    if (own && (ts.isFunctionDeclaration(node) || ts.isClassDeclaration(node)) && node.name) names.push(node.name.text);
    if (own && ts.isVariableStatement(node)) names.push(...node.declarationList.declarations.map(({ name }) => name.getText()));
  }
  return names;
}

/** What the sources say, and what they define. */
function readSources(): Known {
  const exported = new Set(['index.ts', 'node.ts', 'web.ts', 'autograd/ops/index.ts'].flatMap(exportsOf));
  const known: Known = { texts: [], exported, methods: new Map(), variables: new Set() };
  const classes = new Map<string, Set<string>>();
  const returned = new Set<string>();
  for (const file of FILES) {
    const source = parse(file);
    const say = (node: ts.Node, text: string) => known.texts.push({ file, line: source.getLineAndCharacterOfPosition(node.getStart()).line + 1, text });
    const visit = (node: ts.Node): void => {
      if (ts.isImportDeclaration(node)) return;
      if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) say(node, node.text);
      if (ts.isTemplateExpression(node)) say(node, node.head.text + node.templateSpans.map((span) => `…${span.literal.text}`).join(''));
      if (ts.isFunctionDeclaration(node) && exported.has(node.name?.text ?? '') && node.type) returned.add(node.type.getText());
      if (ts.isClassDeclaration(node) && node.name) {
        const hidden = (member: ts.MethodDeclaration) => ts.getModifiers(member)?.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword);
        const methods = node.members.filter((member) => ts.isMethodDeclaration(member) && !hidden(member)).map((member) => member.name?.getText() ?? '');
        classes.set(node.name.text, new Set(methods));
      }
      if (ts.isPropertyAccessExpression(node) && node.expression.getText().endsWith('env')) known.variables.add(node.name.text);
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  for (const [name, methods] of classes) if (exported.has(name) || returned.has(name)) known.methods.set(name, methods);
  return known;
}

const known = readSources();
/** The help of each command; '' is that of the program. */
const help = new Map<string, string>();
const scripts: Record<string, string> = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).scripts;

const commandsIn = (text: string): string[] =>
  [...text.slice(text.indexOf('Commands:')).matchAll(/^ {2}([a-z]+(?:-[a-z]+)*)\b/gm)].map(([, name]) => name).filter((name) => name !== 'help');
const hasOption = (text: string, option: string): boolean => new RegExp(`(^|[\\s,])${option}(?![\\w-])`, 'm').test(text);

/** Names in a text that nothing answers to. `command`: the one whose texts these are, or '' for any. */
function unknownNames(text: string, command = ''): string[] {
  const faults: string[] = [];
  for (const [call, owner, name] of text.matchAll(/(?<![\w.…])(?:([A-Za-z_]\w*)\.)?([A-Za-z_]\w*)\(\)/g)) {
    if (/^vec\d[fiu]$/.test(name)) continue; // an expression of a shader
    const type = [...known.methods.keys()].find((each) => each.toLowerCase() === owner?.toLowerCase());
    const methods = type ? [known.methods.get(type)] : owner ? [] : [...known.methods.values()];
    const found = methods.some((each) => each?.has(name)) || ((!owner || owner === 'ops') && known.exported.has(name));
    if (!found) faults.push(call);
  }
  // A text that gives another command gives that one's options.
  const others = [...text.matchAll(/\bglimpse ([a-z]+(?:-[a-z]+)*)\b/g)].map(([, name]) => name);
  const options = command ? [command, ...others].map((name) => help.get(name) ?? '') : [...help.values()];
  for (const [option] of text.matchAll(/(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-])/g))
    if (!FOREIGN_OPTIONS.includes(option) && !options.some((each) => hasOption(each, option))) faults.push(option);
  // `glimpse checkpoint 1` alone is the mark of a file.
  if (!/^glimpse \w+ \d+$/.test(text)) for (const [call, name] of text.matchAll(/\bglimpse ([a-z]+(?:-[a-z]+)*)\b/g)) if (!help.has(name)) faults.push(call);
  for (const [call, name] of text.matchAll(/\bnpm run ([\w:-]+)/g)) if (!(name in scripts)) faults.push(call);
  for (const [name] of text.matchAll(/\bGLIMPSE_\w+/g)) if (!known.variables.has(name)) faults.push(name);
  return faults;
}

beforeAll(async () => {
  help.set('', (await glimpse('--help')).stdout);
  for (const name of commandsIn(help.get('') ?? '')) {
    const { stdout } = await glimpse(name, '--help');
    const inner = await Promise.all(commandsIn(stdout.includes('Commands:') ? stdout : 'Commands:').map((each) => glimpse(name, each, '--help')));
    help.set(name, [stdout, ...inner.map((each) => each.stdout)].join('\n'));
  }
});

describe('every name in a text of the program exists', () => {
  test('the sources are read', () => {
    expect(FILES.length).toBeGreaterThan(50);
    expect(known.texts.length).toBeGreaterThan(1000);
    expect(known.methods.get('Scope')).toContain('keep');
    expect([...help.keys()]).toEqual(expect.arrayContaining(['doctor', 'train', 'tune']));
    expect([...known.variables]).toContain('GLIMPSE_ADAPTER');
  });

  test.each([...new Set(known.texts.map(({ file }) => file))])('%s', (file) => {
    const named = basename(file, '.ts').replaceAll('_', '-');
    const command = file.startsWith('cli') && help.has(named) ? named : '';
    const faults = known.texts
      .filter((each) => each.file === file)
      .flatMap(({ line, text }) => unknownNames(text, command).map((name) => `src/${file}:${line} names ${name}, which does not exist`));
    expect(faults).toEqual([]);
  });
});

test.each([
  ['keep it with scope.keep() or retain()', ['retain()']],
  ['keep it with scope.hold(), Scope.release() or alias()', ['scope.hold()']],
  ['use tensor.data() or ops.relu(), not ops.sofmax() or Nothing.at()', ['ops.sofmax()', 'Nothing.at()']],
  ['lower --rate or --learning-rate', ['--learning-rate']],
  ['run `glimpse tune` or `glimpse retune` again', ['glimpse retune']],
  ['install it with npm run wordnet, or npm run nothing', ['npm run nothing']],
  ['set GLIMPSE_CACHE or GLIMPSE_CASH', ['GLIMPSE_CASH']],
])('what does not exist is found: %s', (text, wanted) => {
  expect(unknownNames(text)).toEqual(wanted);
});

test('an option of another command is found in the texts of a command', () => {
  expect(unknownNames('give --encoder', 'train')).toEqual([]);
  expect(unknownNames('give --encoder', 'doctor')).toEqual(['--encoder']);
});
