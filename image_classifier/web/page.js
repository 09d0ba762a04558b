// Choose images, have them classified, show the answers. Names of classes and files are untrusted: they are shown as text, never as markup.

import {busyText, classNames, explain as explainOne, GROUP, originOf, predict, predictSeveral, setKey} from './backend.js';
import {Problem} from './problem.js';

const FIRST = 10;  // classes shown at first
const DRAWN = 1e8;  // pixels of a picture that is shown
const NAMED = 5, LONG = 30;  // classes named under the title, and the characters of each
const $ = id => document.getElementById(id);

let current = new AbortController();  // of the request whose answer will be shown; a newer one aborts it
let urls = [];  // object URLs in use
let retry = null, clock = null;  // what "Try again" does, and the timer of its label
let names = null;  // of the classes, once they are known


// Small helpers

function make(tag, text = '', className = '') {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = className;
  return element;
}

function percent(share) {
  if (share > 0 && share < 0.0005) return '< 0.1 %';
  return share < 1 && share >= 0.9995 ? '> 99.9 %' : `${(100 * share).toFixed(1)} %`;
}

const count = (number, name) => `${number.toLocaleString('en')} ${name}${number === 1 ? '' : name.endsWith('s') ? 'es' : 's'}`;

function notesOf(result, short = false) {
  const notes = (result.warnings ?? []).map(String);
  if (result.out_of_distribution) notes.unshift(short ? 'Unlike the training images.' : 'Unlike the training images: the class may mean nothing.');
  if (result.below_threshold) notes.unshift(short ? 'Let a person look.' : 'Not sure enough: let a person look.');
  return notes;
}

// Screen readers speak the text; it is also seen, unless the page shows the same elsewhere.
function say(text, look = 'unseen') {
  $('status').textContent = text;
  $('status').className = look;
}


// Actions

// A file that was moved or changed since it was chosen makes its whole request fail: it is found before.
// Its first byte is enough, except that a slice of a file that seems empty always succeeds.
const isReadable = ({file}) => (file.size ? file.slice(0, 1) : file).arrayBuffer().then(() => true, () => false);
const GONE = 'The file cannot be read any more. Choose it again.';

// Run an action whose answer is shown; a newer one aborts it, so that no stale answer appears.
async function attempt(action) {
  current.abort();
  current = new AbortController();
  const {signal} = current;
  clearProblem();
  try {
    await action(signal);
    if (!names) introduce();
  } catch (problem) {
    if (!signal.aborted) showProblem(problem, () => attempt(action));
  }
}


// Problems

function clearProblem() {
  clearInterval(clock);
  $('problem').classList.remove('shown');
  $('problem-text').textContent = '';
  $('again').hidden = $('key-form').hidden = true;
  retry = null;
}

function showProblem(problem, action) {
  clearProblem();
  say('');
  if (!(problem instanceof Problem)) console.error(problem);
  const detail = problem.detail ?? String(problem), parts = [problem.title ?? 'This page failed.', /[^.!?]$/.test(detail) ? `${detail}.` : detail];
  if (problem.seconds) parts.push(`Try again in ${count(problem.seconds, 'second')}.`);
  $('problem-text').replaceChildren(make('strong', parts[0]), ` ${parts.slice(1).join(' ')}`);
  $('problem').classList.add('shown');
  retry = action;
  if (problem.status === 401) {
    $('key-form').hidden = false;
    $('key').focus();
  } else if (problem.again) {
    offerAgain(Date.now() + 1000 * problem.seconds);
  }
}

function offerAgain(time) {
  const show = () => {
    const left = Math.ceil((time - Date.now()) / 1000);
    $('again').disabled = left > 0;
    $('again').textContent = left > 0 ? `Try again in ${left} s` : 'Try again';
    if (left <= 0) clearInterval(clock);
  };
  $('again').hidden = false;
  clock = setInterval(show, 250);
  show();
}

$('again').addEventListener('click', () => retry());
$('key-form').addEventListener('submit', event => {
  event.preventDefault();
  setKey($('key').value.trim());
  $('key').value = '';
  retry();
});


// One image

function reset() {
  $('single').hidden = $('several').hidden = $('back').hidden = true;
  $('several').querySelector('tbody').replaceChildren();
  $('ranking').replaceChildren();
  urls.forEach(url => URL.revokeObjectURL(url));
  urls = [];
}

function objectURL(blob) {
  urls.push(URL.createObjectURL(blob));
  return urls.at(-1);
}

// `url` is that of the picture; `answer` has the probabilities, if they are known already.
function showOne(pick, url, answer = null) {
  $('answer').hidden = $('heat-map').hidden = $('preview').hidden = true;
  $('preview').src = url;
  $('preview-name').textContent = pick.name;
  $('single').hidden = false;
  $('explain').onclick = () => attempt(signal => explain(pick, signal));
  return attempt(async signal => {
    say(busyText(pick.name), 'busy');
    if (!answer && !await isReadable(pick)) throw new Problem(GONE);
    showAnswer(answer ?? await predict(pick, signal));
  });
}

function showAnswer(answer) {
  const ranked = answer.all_probabilities;
  if (!Array.isArray(ranked)) throw new Problem('The answer lacks probabilities.', 'Is this page of the same version as the server?');
  const best = `${answer.predicted_class}, ${percent(answer.confidence)}`, notes = notesOf(answer);
  $('best').textContent = best;
  $('notes').replaceChildren(...notes.map(note => make('li', note)));
  $('notes').hidden = !notes.length;
  $('origin').textContent = originOf(answer);
  $('ranking').replaceChildren(...ranked.slice(0, FIRST).map(rankedClass));
  $('show-all').hidden = ranked.length <= FIRST;
  $('show-all').textContent = `Show all ${count(ranked.length, 'class')}`;
  $('show-all').onclick = () => {
    $('ranking').append(...ranked.slice(FIRST).map(rankedClass));
    $('show-all').hidden = true;
    $('ranking').children[FIRST].tabIndex = -1;  // the button that had the focus is gone
    $('ranking').children[FIRST].focus();
  };
  $('explain').hidden = !explainOne;
  $('answer').hidden = false;
  say([`${best}.`, ...notes].join(' '));
}

function rankedClass(entry) {
  const row = make('li'), bar = make('span', '', 'bar');
  bar.style.setProperty('--share', entry.probability);
  row.append(make('span', entry.class, 'name'), ' ', make('span', percent(entry.probability), 'number'), bar);
  return row;
}

async function explain(pick, signal) {
  say('Drawing the heat map …', 'busy');
  const answer = await explainOne(pick, signal);
  if (!String(answer.heat_map).startsWith('data:image/')) throw new Problem('No heat map.', 'The server offers none for this model.');
  const [picture, caption] = $('heat-map').children;
  picture.src = answer.heat_map;
  caption.textContent = answer.heat_map_text ?? '';
  $('heat-map').hidden = false;
  $('explain').hidden = true;
  say(`Heat map: ${caption.textContent}`);
}

// The server may read formats that the browser does not; and browsers stop for minutes to draw a picture that is too large.
$('preview').addEventListener('load', ({target}) => { target.hidden = target.naturalWidth * target.naturalHeight > DRAWN; });


// Several images

function groupsOf(rows) {
  const groups = [];
  let bytes = 0;
  for (const row of rows) {
    const group = groups.at(-1);
    bytes += row.file.size;
    if (group && group.length < GROUP.files && bytes <= GROUP.bytes) {
      group.push(row);
    } else {
      groups.push([row]);
      bytes = row.file.size;
    }
  }
  return groups;
}

function classifySeveral(picks) {
  const rows = picks.map(pick => ({...pick, url: objectURL(pick.file), result: null, line: make('tr'), button: make('button', pick.name)}));
  rows.forEach(row => addCells(row, rows));
  $('several').querySelector('tbody').replaceChildren(...rows.map(row => row.line));
  $('several-title').textContent = count(rows.length, 'image');
  $('several').hidden = false;
  $('download').onclick = () => download(rows);
  showProgress(rows);
  return attempt(signal => classifyRows(rows, signal));
}

function addCells(row, rows) {
  const first = make('th'), cells = [first, make('td'), make('td', '', 'number'), make('td', 'waiting', 'muted')], picture = make('img');
  Object.assign(picture, {alt: '', loading: 'lazy', decoding: 'async'});  // lazy: thousands of photos are read as they are scrolled to
  picture.addEventListener('load', () => { picture.style.visibility = 'visible'; });
  row.button.type = 'button';
  row.button.addEventListener('click', () => openRow(row, rows));
  first.scope = 'row';
  first.append(picture, row.button);
  row.line.setAttribute('role', 'row');
  cells.forEach(cell => cell.setAttribute('role', cell === first ? 'rowheader' : 'cell'));
  row.line.append(...cells);
}

// One row as a single image. A table that is not complete waits, and goes on when it is shown again.
function openRow(row, rows) {
  $('several').hidden = true;
  $('back').hidden = false;
  $('back').onclick = () => {
    $('single').hidden = $('back').hidden = true;
    $('several').hidden = false;
    row.button.focus();
    return attempt(signal => classifyRows(rows, signal));
  };
  $('back').focus();
  return showOne(row, row.url, row.result?.all_probabilities && row.result);
}

// An attempt after a failure goes on with the rows that have no result yet.
async function classifyRows(rows, signal) {
  const groups = groupsOf(rows.filter(row => !row.result));
  while (groups.length) {
    showProgress(rows);
    const all = groups.shift(), readable = await Promise.all(all.map(isReadable));
    const group = all.filter((_, i) => readable[i]);
    all.filter((_, i) => !readable[i]).forEach(row => fill(row, {error: GONE}));
    if (!group.length) continue;
    let results;
    try {
      results = await predictSeveral(group, signal);
    } catch (problem) {
      if (signal.aborted || problem.again || problem.status === 401) throw problem;
      if (group.length > 1) {  // refused as a whole: one by one, the good ones get their answers
        groups.unshift(...group.map(row => [row]));
        continue;
      }
      results = [{error: problem.detail || problem.title}];
    }
    if (results?.length !== group.length) throw new Problem('The answer does not match the request.', `${count(group.length, 'image')} went out.`);
    group.forEach((row, i) => fill(row, results[i]));
  }
  showProgress(rows);
}

function fill(row, result) {
  row.result = result;
  const [first, name, confidence, note] = row.line.children;
  if (!result.error) first.querySelector('img').src = row.url;  // only now it is known that the picture is no trap of 400 million pixels
  name.textContent = result.predicted_class ?? '';
  confidence.textContent = result.error ? '' : percent(result.confidence);
  note.textContent = result.error ?? notesOf(result, true).join(' ');
  note.className = result.error ? 'error' : '';
}

function showProgress(rows) {
  const done = rows.filter(row => row.result), failed = done.filter(row => row.result.error).length;
  Object.assign($('progress'), {max: rows.length, value: done.length, hidden: done.length === rows.length});
  $('download').disabled = !done.length;
  const errors = failed ? `, ${count(failed, 'error')}` : '';
  say(`${done.length.toLocaleString('en')} of ${count(rows.length, 'image')} done${errors}`, done.length < rows.length ? 'busy' : '');
}

// RFC 4180. A spreadsheet runs a cell that begins like a formula: an apostrophe makes it text.
function csvCell(value) {
  const text = typeof value === 'string' && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? '');
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function download(rows) {
  const keys = ['predicted_class', 'confidence', 'below_threshold', 'out_of_distribution', 'error'];
  const lines = [['file', ...keys], ...rows.map(({name, result}) => [name, ...keys.map(key => (result ?? {error: 'no answer yet'})[key])])];
  const text = lines.map(line => line.map(csvCell).join(',')).join('\r\n');
  const link = make('a');
  link.href = URL.createObjectURL(new Blob(['\ufeff', text, '\r\n'], {type: 'text/csv'}));  // Excel knows UTF-8 by the mark in front
  link.download = 'predictions.csv';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);  // the browser reads it after the click
}


// Choosing images: files, a drop, the clipboard, the camera

function choose(picks) {
  if (!picks.length) return showProblem(new Problem('No image file was given.', 'Links and text are not fetched: save the image, then choose its file.'));
  reset();
  return picks.length === 1 ? showOne(picks[0], objectURL(picks[0].file)) : classifySeveral(picks);
}

const picksOf = files => [...files].map(file => ({file, name: file.name}));

// The files of a dropped folder, with their paths; hidden ones are left out.
async function picksIn(entry) {
  const call = (object, method) => new Promise((done, fail) => object[method](done, fail));
  if (entry.isFile) return [{file: await call(entry, 'file'), name: entry.fullPath.slice(1)}];
  const reader = entry.createReader(), found = [];
  for (let some; (some = await call(reader, 'readEntries')).length;) found.push(...some);  // 100 at a time
  const shown = found.filter(one => !one.name.startsWith('.')).sort((a, b) => a.name.localeCompare(b.name, 'en', {numeric: true}));
  return (await Promise.all(shown.map(picksIn))).flat();
}

$('drop').addEventListener('click', () => $('files').click());
for (const input of [$('files'), $('phone')]) {
  input.addEventListener('change', () => {
    choose(picksOf(input.files));
    input.value = '';  // the same file can be chosen again
  });
}

for (const type of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  document.addEventListener(type, event => {
    event.preventDefault();  // the browser would leave the page to show the file
    $('drop').classList.toggle('over', type === 'dragenter' || type === 'dragover');
  });
}
document.addEventListener('drop', async event => {
  const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(entry => entry.isDirectory)) return choose(picksOf(event.dataTransfer.files));
  const before = current;
  say('Reading the folder …', 'busy');
  try {
    const picks = (await Promise.all(entries.map(picksIn))).flat();
    if (current === before) choose(picks);  // else something newer was chosen
  } catch (problem) {
    showProblem(new Problem('The folder cannot be read.', problem.message));
  }
});

document.addEventListener('paste', event => {
  if (event.target === $('key')) return;
  event.preventDefault();
  choose(picksOf(event.clipboardData.files));
});

// Phones have a camera app of their own; elsewhere the page asks the browser, which needs https or localhost.
const phone = matchMedia('(pointer: coarse)').matches;
const dialog = $('camera-dialog'), video = dialog.querySelector('video');
$('camera').hidden = !phone && !navigator.mediaDevices;
$('camera').addEventListener('click', async () => {
  if (phone) return $('phone').click();
  dialog.showModal();
  try {
    const stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment', width: {ideal: 1280}}});
    if (!dialog.open) return stop(stream);  // closed while the browser asked
    video.srcObject = stream;
    await video.play();
    $('take').disabled = false;
    $('take').focus();
  } catch (problem) {
    if (dialog.open) showProblem(new Problem('The camera cannot be used.', problem.message));
    dialog.close();
  }
});

const stop = stream => stream?.getTracks().forEach(track => track.stop());
dialog.addEventListener('close', () => {
  stop(video.srcObject);
  video.srcObject = null;
  $('take').disabled = true;
});
$('camera-close').addEventListener('click', () => dialog.close());
$('take').addEventListener('click', () => {
  const canvas = make('canvas');
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext('2d').drawImage(video, 0, 0);
  dialog.close();
  canvas.toBlob(blob => choose([{file: blob, name: 'camera.jpg'}]), 'image/jpeg', 0.95);
});


// The classes

async function allNames() {
  if (!names) {
    names = await classNames(new AbortController().signal);
    showKinds();
  }
  return names;
}

// "ants or bees"; of many, the first ones and how many more.
function showKinds() {
  const parts = names.slice(0, NAMED).map(name => [...name]).map(signs => make('bdi', signs.length > LONG ? `${signs.slice(0, LONG - 1).join('')}…` : signs.join('')));
  const more = names.length - parts.length, last = more ? `${more.toLocaleString('en')} more` : parts.pop();
  const listed = parts.flatMap((part, i) => (i ? [', ', part] : [part]));
  $('kinds').replaceChildren('Recognizes ', ...listed, ...listed.length ? [more ? ' and ' : ' or ', last] : [last]);
}

// When the page opens. The first image meets a failure too, so only the question for a key is shown now.
async function introduce() {
  const before = current;
  try {
    await allNames();
    if (retry !== introduce || current !== before) return;
    clearProblem();
    say('The key was accepted.');
    $('drop').focus();
  } catch (problem) {
    if (current === before && (problem.status === 401 || retry === introduce)) showProblem(problem, introduce);
  }
}
introduce();

async function listClasses() {
  const list = $('classes').querySelector('ul');
  if (!$('classes').open || list.children.length) return;
  try {
    const classes = await allNames();
    if (retry === listClasses) clearProblem();
    list.replaceChildren(...classes.map(name => make('li', name)));
  } catch (problem) {
    showProblem(problem, listClasses);
  }
}
$('classes').addEventListener('toggle', listClasses);
