/** What TypeScript's compiler knows of the things that `glimpse` exports: signatures, members, docstrings. For api_docs.ts. */
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const SHOWN = ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.UseSingleQuotesForStringLiteralType;

/** Something exported, and the file that declares it. */
export interface Exported {
  symbol: ts.Symbol;
  file: string;
}

/** The declaration that says most: of a schema and its type, which share a name, the type. */
export function declaration(symbol: ts.Symbol): ts.Declaration {
  const found = symbol.declarations?.find(ts.isTypeAliasDeclaration) ?? symbol.declarations?.[0];
  if (!found) throw new Error(`${symbol.name} is declared nowhere`);
  return found;
}

export function isFunction({ symbol }: Exported): boolean {
  const node = declaration(symbol);
  return (
    ts.isFunctionDeclaration(node) || (ts.isVariableDeclaration(node) && node.initializer !== undefined && ts.isArrowFunction(node.initializer) && !node.type)
  );
}

const code = (text: string) => `\`\`\`ts\n${text}\n\`\`\``;
const oneLine = (text: string) => text.replace(/\s+/g, ' ').replace(/\( /g, '(').replace(/,? \)/g, ')').trim();

/** A node's text as it is written, without the blank that its nesting puts before each line. */
const written = (node: ts.Node) => node.getText().replace(/^export /, '');

export class Exports {
  private readonly program: ts.Program;
  private readonly checker: ts.TypeChecker;

  constructor(private readonly entries: readonly string[]) {
    const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile);
    const { options } = ts.parseJsonConfigFileContent(config, ts.sys, ROOT);
    this.program = ts.createProgram(
      entries.map((entry) => join(ROOT, entry)),
      options,
    );
    this.checker = this.program.getTypeChecker();
  }

  /** What a file exports, by name. */
  of(entry: string): Exported[] {
    const file = this.program.getSourceFile(join(ROOT, entry));
    const module = file && this.checker.getSymbolAtLocation(file);
    if (!module) throw new Error(`${entry} exports nothing`);
    return this.checker
      .getExportsOfModule(module)
      .map((symbol) => (symbol.flags & ts.SymbolFlags.Alias ? this.checker.getAliasedSymbol(symbol) : symbol))
      .filter(({ declarations = [] }) => declarations.length > 0 && !ts.isSourceFile(declarations[0]))
      .map((symbol) => ({ symbol, file: relative(ROOT, declaration(symbol).getSourceFile().fileName) }))
      .sort((a, b) => (a.symbol.name.toLowerCase() < b.symbol.name.toLowerCase() ? -1 : 1));
  }

  /** What all entries export, each once; `openGpu` and its options are two, one for each host. */
  get all(): Exported[] {
    return [...new Map(this.entries.flatMap((entry) => this.of(entry)).map((each) => [each.symbol, each])).values()];
  }

  docOf(symbol: ts.Symbol): string {
    return oneLine(ts.displayPartsToString(symbol.getDocumentationComment(this.checker)));
  }

  /** `name(x: Tensor, slope = 0.01): Tensor` */
  signature(symbol: ts.Symbol): string {
    const [signature] = this.checker.getTypeOfSymbolAtLocation(symbol, declaration(symbol)).getCallSignatures();
    const { typeParameters } = signature.declaration as ts.SignatureDeclaration;
    const generic = typeParameters ? `<${typeParameters.map((each) => each.getText()).join(', ')}>` : '';
    const parameters = signature.parameters.map((parameter) => {
      const node = parameter.valueDeclaration as ts.ParameterDeclaration;
      const named = !node.type?.getText().includes('typeof'); // a type made of a value says nothing to a reader
      return named ? oneLine(node.getText()) : `${parameter.name}: ${this.typeText(this.checker.getTypeOfSymbol(parameter))}`;
    });
    return `${symbol.name}${generic}(${parameters.join(', ')}): ${this.typeText(signature.getReturnType())}`;
  }

  private typeText(type: ts.Type): string {
    return this.checker.typeToString(type, undefined, SHOWN);
  }

  /** A type alias as it is written, or what it comes to where it is made of values. */
  private aliasText(symbol: ts.Symbol, node: ts.TypeAliasDeclaration): string {
    if (!node.type.getText().includes('typeof')) return written(node);
    const type = this.checker.getDeclaredTypeOfSymbol(symbol);
    if (type.isUnion()) return `type ${symbol.name} = ${type.types.map((each) => this.typeText(each)).join(' | ')};`;
    const members = this.checker.getPropertiesOfType(type).map((member) => {
      const optional = member.flags & ts.SymbolFlags.Optional ? '?' : '';
      return `  ${member.name}${optional}: ${this.typeText(this.checker.getTypeOfSymbol(member))};`;
    });
    return `type ${symbol.name} = {\n${members.join('\n')}\n};`;
  }

  /** The members of a class that a program may use: name, text without the body, docstring. */
  membersOf(symbol: ts.Symbol): { name: string; text: string; doc: string }[] {
    const hidden = ts.ModifierFlags.Private | ts.ModifierFlags.Protected;
    const { members } = declaration(symbol) as ts.ClassDeclaration;
    const kept = members
      .filter(ts.isConstructorDeclaration)
      .flatMap(({ parameters }) => [...parameters])
      .filter((each) => ts.isParameterPropertyDeclaration(each, each.parent) && !(ts.getCombinedModifierFlags(each) & hidden))
      .map((each) => ({
        name: 'constructor',
        text: oneLine(each.getText()).replace(/ = .*/, `: ${this.typeText(this.checker.getTypeAtLocation(each))}`),
        doc: '',
      }));
    const others = members
      .filter((member) => !(ts.getCombinedModifierFlags(member) & hidden) && !ts.getJSDocTags(member).some(({ tagName }) => tagName.text === 'internal'))
      .filter((member) => !ts.isSetAccessor(member)) // its getter is listed
      .map((member) => {
        const own = member.name && this.checker.getSymbolAtLocation(member.name);
        return { name: member.name?.getText() ?? 'constructor', text: this.memberText(member), doc: own ? this.docOf(own) : '' };
      });
    return [...kept, ...others];
  }

  private memberText(member: ts.ClassElement): string {
    if (ts.isPropertyDeclaration(member)) {
      const type = member.type?.getText() ?? this.typeText(this.checker.getTypeAtLocation(member));
      return oneLine(`${member.modifiers?.map((each) => each.getText()).join(' ') ?? ''} ${member.name.getText()}: ${type}`);
    }
    const body = 'body' in member ? (member.body as ts.Node | undefined) : undefined;
    const text = oneLine(member.getSourceFile().text.slice(member.getStart(), body?.getStart() ?? member.getEnd())).replace(/;$/, '');
    if (!ts.isConstructorDeclaration(member)) return text.replace(/^async /, '');
    return text.replace(/\b(private|readonly|public) /g, '');
  }

  /** Everything of one export, as a part of a page: heading, text in code, docstring. */
  described({ symbol, file }: Exported): string {
    const node = declaration(symbol);
    const host = file.includes('platform/web') ? ' (browser)' : file.includes('platform/node') ? ' (Node)' : '';
    const parts = (shown: string | null, more = '') =>
      [`### ${symbol.name}${host}`, this.docOf(symbol), shown && code(shown), more].filter(Boolean).join('\n\n');
    if (isFunction({ symbol, file })) return parts(this.signature(symbol));
    if (ts.isClassDeclaration(node)) {
      const members = this.membersOf(symbol).map(({ text, doc }) => `- \`${text}\`${doc ? `: ${doc}` : ''}`);
      return parts(null, members.join('\n'));
    }
    if (ts.isVariableDeclaration(node)) {
      const type = node.type?.getText() ?? this.typeText(this.checker.getTypeOfSymbolAtLocation(symbol, node));
      return parts(`const ${symbol.name}: ${type};`);
    }
    return parts(ts.isTypeAliasDeclaration(node) ? this.aliasText(symbol, node) : written(node));
  }
}
