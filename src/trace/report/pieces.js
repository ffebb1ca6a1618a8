// SPDX-License-Identifier: MIT
// How the text of a token is shown, and how tokens make words and sentences.

const codePoint = (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`;

// Characters that draw nothing or turn the text around them: shown by name. The joiners and variation selectors that
// emoji and scripts are made of stay, unless a token is nothing else.
const UNSEEN = new RegExp(
    '[' +
        '\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f' +  // control characters but tab and line breaks
        '\\u00ad\\u200b\\u2060-\\u2065\\ufeff\\ufff9-\\ufffb' +          // no width
        '\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u206f' +          // lines and directions
        ']',
    'g');
const ONLY_JOINERS = /^[\u200c\u200d\ufe00-\ufe0f]+$/;

// Signs are of the blocks that text faces have: a missing one takes its neighbours with it.
const named = (text) => text.replace(UNSEEN, codePoint).replace(/\r/g, '⟨CR⟩');

/// As it stands in the running text: every character that is not ink is marked, and line breaks still break.
function inText(piece) {
  if (ONLY_JOINERS.test(piece)) return [...piece].map(codePoint).join('');
  return named(piece).replace(/\n/g, '↵\n').replace(/\t/g, '⇥\t');
}

/// As a label: on one line, spaces visible, long ones cut.
function asLabel(text, most = 40) {
  if (text === '') return '∅';
  if (ONLY_JOINERS.test(text)) return [...text].map(codePoint).join('');
  const all = [...text];
  const cut = all.length > most ? all.slice(0, most - 1).join('') + '…' : text;
  return named(cut.replace(/\n/g, '↵').replace(/\t/g, '⇥'))
      .replace(/^ +| +$/g, (s) => '␣'.repeat(s.length));
}

const LETTERS = /[\p{L}\p{M}\p{N}_\ufffd\u200c\u200d]/u;  // U+FFFD: a piece of a character, so a piece of a word
const SENTENCE_END = /[.!?…。！？؟।]["'”’»)\]]*\s*$/u;

/// Unit boundaries [units + 1]: the first token of each unit, then T.
function unitStarts(pieces, granularity) {
  const starts = [0];
  if (granularity === 'token') {
    for (let j = 1; j < pieces.length; ++j) starts.push(j);
  } else if (granularity === 'word') {
    // A word goes on where letters meet letters with no space between them.
    let before = pieces[0];
    for (let j = 1; j < pieces.length; ++j) {
      if (pieces[j] === '') continue;  // the rest of a character
      const joined = LETTERS.test([...before].at(-1) ?? ' ') && LETTERS.test([...pieces[j]][0]);
      if (!joined) starts.push(j);
      before = pieces[j];
    }
  } else {
    // A sentence ends after its mark, if a space or line break follows, and at every line break.
    let end = '';
    for (let j = 1; j < pieces.length; ++j) {
      end = (end + pieces[j - 1]).slice(-8);
      const broken = /\n\s*$/.test(end) && !/^\s*$/.test(pieces[j]);
      if (broken ||
          (SENTENCE_END.test(end) && !/\n\s*$/.test(end) && (/\s$/.test(end) || /^[ \t]/.test(pieces[j])) &&
           pieces[j].trim() !== '')) {
        starts.push(j);
        end = '';
      }
    }
  }
  starts.push(pieces.length);
  return Int32Array.from(starts);
}

/// The unit of each token [T].
function unitOf(starts) {
  const of = new Int32Array(starts.at(-1));
  for (let u = 0; u + 1 < starts.length; ++u) of.fill(u, starts[u], starts[u + 1]);
  return of;
}
