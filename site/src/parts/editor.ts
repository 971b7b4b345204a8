/** CodeMirror with a grammar of WGSL. It is loaded when somebody edits. */
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { HighlightStyle, indentUnit, StreamLanguage, type StreamParser, syntaxHighlighting } from '@codemirror/language';
import { type Diagnostic, lintGutter, setDiagnostics } from '@codemirror/lint';
import { EditorState } from '@codemirror/state';
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from '@codemirror/view';
import { tags } from '@lezer/highlight';

const KEYWORDS =
  /^(alias|break|case|const|const_assert|continue|continuing|default|diagnostic|discard|else|enable|fn|for|if|let|loop|override|requires|return|struct|switch|var|while|true|false)$/;
const TYPES = /^(bool|[iuf](16|32)|vec[234][iufh]?|mat[234]x[234][fh]?|array|atomic|ptr|sampler|texture_\w+)$/;

const wgsl: StreamParser<{ comment: number }> = {
  name: 'wgsl',
  startState: () => ({ comment: 0 }),
  token(stream, state) {
    if (state.comment > 0 || stream.match('/*')) {
      state.comment ||= 1;
      while (!stream.eol() && state.comment > 0) {
        if (stream.match('/*')) state.comment++;
        else if (stream.match('*/')) state.comment--;
        else stream.next();
      }
      return 'comment';
    }
    if (stream.match('//')) {
      stream.skipToEnd();
      return 'comment';
    }
    if (stream.match(/^(0x[\da-fA-F]+|\d+\.?\d*(e[+-]?\d+)?|\.\d+(e[+-]?\d+)?)[iufh]?/)) return 'number';
    if (stream.match(/^@\w+/)) return 'meta';
    if (stream.match(/^[A-Za-z_]\w*/)) {
      const word = stream.current();
      if (KEYWORDS.test(word)) return 'keyword';
      if (TYPES.test(word)) return 'typeName';
      return stream.match(/^\s*\(/, false) ? 'variableName.function' : 'variableName';
    }
    stream.next();
    return null;
  },
  languageData: { commentTokens: { line: '//', block: { open: '/*', close: '*/' } }, closeBrackets: { brackets: ['(', '[', '{'] } },
};

const colors = HighlightStyle.define([
  { tag: tags.keyword, class: 'keyword' },
  { tag: tags.comment, class: 'comment' },
  { tag: [tags.number, tags.typeName, tags.meta], class: 'constant' },
  { tag: tags.function(tags.variableName), class: 'function' },
]);

export interface Editor {
  root: HTMLElement;
  text(): string;
  /** Marks lines; an empty list takes the marks away. */
  mark(faults: readonly { line: number; column: number; message: string }[]): void;
}

export function openEditor(text: string, label: string, onChange: (text: string) => void): Editor {
  const root = document.createElement('div');
  root.className = 'editor';
  const view = new EditorView({
    parent: root,
    state: EditorState.create({
      doc: text,
      extensions: [
        ...[lineNumbers(), history(), drawSelection(), highlightActiveLine(), lintGutter(), indentUnit.of('  ')],
        ...[StreamLanguage.define(wgsl), syntaxHighlighting(colors), keymap.of([indentWithTab, ...defaultKeymap, ...historyKeymap])],
        EditorView.contentAttributes.of({ 'aria-label': label }),
        EditorView.updateListener.of(({ docChanged, state }) => docChanged && onChange(state.doc.toString())),
      ],
    }),
  });
  return {
    root,
    text: () => view.state.doc.toString(),
    mark: (faults) => {
      const { doc } = view.state;
      const marks = faults.map(({ line, column, message }): Diagnostic => {
        const at = doc.line(Math.max(1, Math.min(doc.lines, line)));
        const from = Math.min(at.to, at.from + Math.max(0, column - 1));
        return { from, to: at.to, severity: 'error', message };
      });
      view.dispatch(setDiagnostics(view.state, marks));
      if (marks.length > 0) view.dispatch({ selection: { anchor: marks[0].from }, scrollIntoView: true });
    },
  };
}
