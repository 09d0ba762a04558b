// From the bytes of an image file to the pixels that the network takes, by the steps of the library's decoder in Python: check the
// header, remove metadata, decode, turn upright, convert to the channels, resize. PNG is decoded here, to the same pixels as in Python;
// `decodeInBrowser` decodes the other formats. Nothing in this file needs a page: the tests run it in Node.

export class ImageError extends Error {}

const damaged = () => new ImageError('damaged data');
const truncated = () => new ImageError('truncated image');
const viewOf = bytes => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function textOf(bytes, start = 0, stop = bytes.length) {  // one character for each byte
  let text = '';
  for (let i = start; i < Math.min(stop, bytes.length); i += 4096) text += String.fromCharCode(...bytes.subarray(i, Math.min(i + 4096, stop)));
  return text;
}

// An image: data (Uint8Array, rows of pixels), width, height, channels (1 gray, 2 gray and alpha, 3 color, 4 color and alpha), and
// step: bytes from one pixel to the next, at least `channels`.
const imageOf = (data, width, height, channels, step = channels) => ({data, width, height, channels, step});


// Formats

const FORMATS = {
  png: /^\x89PNG\r\n\x1a\n/, jpeg: /^\xff\xd8\xff/, webp: /^RIFF....WEBP/s, bmp: /^BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0/s, gif: /^GIF8[79]a/,
  tiff: /^(II\*\0|MM\0\*)/, jpeg2000: /^(\0\0\0\x0cjP {2}|\xff\x4f\xff\x51)/, avif: /^....ftypavi[fs]/s, ppm: /^P[1-6]\s+(#[^\n]*\n\s*)*\d+\s/, bigtiff: /^(II\+\0|MM\0\+)/,
  eps: /^(%!PS|\xc5\xd0\xd3\xc6)/, pdf: /^\s*%PDF-/, svg: /^(\xef\xbb\xbf)?\s*(<[?!].*?)?<svg/s, html: /^(\xef\xbb\xbf)?\s*(<!doctype html|<html)/i, psd: /^8BPS/,
  fits: /^SIMPLE {2}=/, heic: /^....ftyp(hei|hev|mif|msf)/s, ico: /^\0\0\x01\0/, zip: /^PK\x03\x04/};
const READABLE = ['png', 'jpeg', 'webp', 'bmp', 'gif'];

export function sniff(bytes) {
  const head = textOf(bytes, 0, 1024);
  return Object.keys(FORMATS).find(name => FORMATS[name].test(head)) ?? null;
}

function checkFormat(bytes, limits) {
  const format = sniff(bytes), allowed = limits.formats.filter(name => READABLE.includes(name));
  if (!format) throw new ImageError(`not an image; allowed are ${allowed.join(', ')}`);
  if (!limits.formats.includes(format)) throw new ImageError(`content is ${format.toUpperCase()}, which is not allowed; convert it to ${allowed[0] ?? 'png'}`);
  if (!READABLE.includes(format)) throw new ImageError(`this page does not read ${format.toUpperCase()}; convert it to png`);
  return format;
}

const inMillions = (amount, unit) => (amount < 1e6 ? `${amount} ${unit}` : `${Math.ceil(amount / 1e5) / 10} M${unit}`);

function checkSize(width, height, {max_pixels: most}) {
  if (width < 1 || height < 1) throw damaged();
  if (width * height > most) throw new ImageError(`too large: ${inMillions(width * height, 'px')}, at most ${inMillions(most, 'px')}`);
}

export function checkBytes(length, {max_bytes: most}) {
  if (!length) throw new ImageError('empty file');
  if (length > most) throw new ImageError(`too large: ${inMillions(length, 'B')}, at most ${inMillions(most, 'B')}`);
}


// Orientation: 1 to 8, in EXIF or XMP

const EXIF_INTEGERS = {3: 'getUint16', 4: 'getUint32', 8: 'getInt16', 9: 'getInt32'};

function exifOrientation(exif) {
  const start = textOf(exif, 0, 6) === 'Exif\0\0' ? 6 : 0, order = textOf(exif, start, start + 2), view = viewOf(exif.subarray(start));
  if (order !== 'II' && order !== 'MM') return null;
  const little = order === 'II';
  try {
    const first = view.getUint32(4, little) + 2, count = view.getUint16(first - 2, little);
    for (let entry = first; entry < first + 12 * count; entry += 12) {
      const read = EXIF_INTEGERS[view.getUint16(entry + 2, little)];
      if (view.getUint16(entry, little) === 0x0112 && read) return view[read](entry + 8, little);
    }
  } catch (problem) {
    if (!(problem instanceof RangeError)) throw problem;  // else the block ends early
  }
  return null;
}

function orientationOf(exif, xmp) {
  const code = exif ? exifOrientation(exif) : null;
  const found = code ?? Number(/tiff:Orientation(="|>)([0-9])/.exec(xmp ? textOf(xmp) : '')?.[2] ?? 1);
  return found >= 1 && found <= 8 ? found : 1;
}

// Where a pixel of the upright image comes from, as [x, y] in one of `width` and `height`.
const SOURCES = {
  2: (x, y, width) => [width - 1 - x, y], 3: (x, y, width, height) => [width - 1 - x, height - 1 - y], 4: (x, y, width, height) => [x, height - 1 - y],
  5: (x, y) => [y, x], 6: (x, y, width, height) => [y, height - 1 - x], 7: (x, y, width, height) => [width - 1 - y, height - 1 - x], 8: (x, y, width) => [width - 1 - y, x]};

function upright(image, orientation) {
  if (orientation === 1) return image;
  const {data, width, height, channels, step} = image, source = SOURCES[orientation];
  const [newWidth, newHeight] = orientation > 4 ? [height, width] : [width, height], turned = new Uint8Array(width * height * channels);
  const place = (x, y) => { const [sx, sy] = source(x, y, width, height); return (sy * width + sx) * step; };
  const origin = place(0, 0), right = place(1, 0) - origin, down = place(0, 1) - origin;  // the map is linear
  for (let y = 0, to = 0; y < newHeight; y++) {
    for (let x = 0, from = origin + y * down; x < newWidth; x++, from += right) {
      for (let c = 0; c < channels; c++) turned[to++] = data[from + c];
    }
  }
  return imageOf(turned, newWidth, newHeight, channels);
}


// PNG

const CRITICAL = ['IHDR', 'PLTE', 'IDAT', 'IEND'], CHECKED = [...CRITICAL, 'tRNS', 'eXIf'], TEXTS = ['tEXt', 'zTXt', 'iTXt'];
const XMP_TEXT = 'XML:com.adobe.xmp', EXIF_TEXT = 'Raw profile type exif', MAX_TEXT = 2 ** 20;
const PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}, PNG_DEPTHS = {0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16]};
const ADAM7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];  // first x and y, steps

const CRC = Int32Array.from({length: 256}, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let sum = -1;
  for (let i = 0; i < bytes.length; i++) sum = CRC[(sum ^ bytes[i]) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

function pngChunks(bytes) {
  const view = viewOf(bytes), chunks = [];
  for (let position = 8, kind = ''; kind !== 'IEND';) {
    if (position + 12 > bytes.length) throw truncated();
    const stop = position + 12 + view.getUint32(position);
    kind = textOf(bytes, position + 4, position + 8);
    if (stop > bytes.length) throw truncated();
    if ((position === 8) !== (kind === 'IHDR') || (/^[A-Z]/.test(kind) && !CRITICAL.includes(kind))) throw damaged();
    if (CHECKED.includes(kind) && crc32(bytes.subarray(position + 4, stop - 4)) !== view.getUint32(stop - 4)) throw damaged();
    chunks.push({kind, content: bytes.subarray(position + 8, stop - 4)});
    position = stop;
  }
  return chunks;
}

// At most `size` bytes of what zlib compressed.
async function inflate(parts, size) {
  const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream('deflate')).getReader(), found = new Uint8Array(size);
  let filled = 0;
  try {
    while (filled < size) {
      const {done, value} = await reader.read();
      if (done) break;
      found.set(value.subarray(0, size - filled), filled);
      filled = Math.min(size, filled + value.length);
    }
  } catch {
    throw truncated();
  }
  reader.cancel().catch(() => {});
  return found.subarray(0, filled);
}

async function pngText({kind, content}) {
  const end = content.indexOf(0), keyword = textOf(content, 0, end), rest = content.subarray(end + 1);
  if (end < 0 || ![XMP_TEXT, EXIF_TEXT].includes(keyword)) return [keyword, new Uint8Array()];
  let text = kind === 'zTXt' ? rest.subarray(1) : rest;
  if (kind === 'iTXt') {
    const language = rest.indexOf(0, 2), translated = rest.indexOf(0, language + 1);
    text = rest.subarray(translated + 1);
  }
  const compressed = kind === 'zTXt' || (kind === 'iTXt' && rest[0] === 1);
  return [keyword, compressed ? await inflate([text], MAX_TEXT).catch(() => new Uint8Array()) : text];
}

// As ImageMagick writes it: "\nexif\n", the length, the bytes in hexadecimal digits.
function exifFromText(text) {
  const digits = textOf(text).split('\n').slice(3).join('').replace(/\s/g, '');
  return /^([0-9a-f]{2})+$/i.test(digits) ? Uint8Array.from(digits.match(/../g), two => parseInt(two, 16)) : new Uint8Array();
}

async function pngOrientation(chunks) {
  const texts = Object.fromEntries(await Promise.all(chunks.filter(({kind}) => TEXTS.includes(kind)).map(pngText)));
  const exif = chunks.findLast(({kind}) => kind === 'eXIf')?.content;
  return orientationOf(exif?.length ? exif : exifFromText(texts[EXIF_TEXT] ?? new Uint8Array()), texts[XMP_TEXT]);
}

function unfilter(rows, height, stride, pixel) {  // in place; each row begins with the number of its filter
  for (let y = 0; y < height; y++) {
    const start = y * (stride + 1) + 1, above = start - stride - 1, kind = rows[start - 1];
    if (kind > 4) throw damaged();
    for (let x = 0; x < stride && kind; x++) {
      const left = x < pixel ? 0 : rows[start + x - pixel], up = y ? rows[above + x] : 0;
      let guess = kind === 1 ? left : kind === 2 ? up : (left + up) >> 1;
      if (kind === 4) {
        const corner = y && x >= pixel ? rows[above + x - pixel] : 0;
        const a = Math.abs(up - corner), b = Math.abs(left - corner), c = Math.abs(left + up - 2 * corner);
        guess = a <= b && a <= c ? left : b <= c ? up : corner;
      }
      rows[start + x] += guess;
    }
  }
}

// The values as stored, (height, width, channels) in 8 or 16 bits.
async function pngSamples(parts, {width, height, depth, channels, interlaced}) {
  const bits = depth * channels, samples = new (depth === 16 ? Uint16Array : Uint8Array)(width * height * channels);
  const passes = (interlaced ? ADAM7 : [[0, 0, 1, 1]]).map(([left, top, dx, dy]) => ({
    left, top, dx, dy, across: Math.ceil((width - left) / dx), down: Math.ceil((height - top) / dy)})).filter(({across, down}) => across > 0 && down > 0);
  const strideOf = ({across}) => Math.ceil(across * bits / 8), sizeOf = pass => (strideOf(pass) + 1) * pass.down;
  const size = passes.reduce((sum, pass) => sum + sizeOf(pass), 0), raw = await inflate(parts, size);
  if (raw.length < size) throw truncated();
  let start = 0;
  for (const pass of passes) {
    const stride = strideOf(pass), rows = raw.subarray(start, start + sizeOf(pass));
    unfilter(rows, pass.down, stride, Math.max(1, bits >> 3));
    for (let y = 0; y < pass.down; y++) {
      const from = y * (stride + 1) + 1;
      for (let x = 0; x < pass.across; x++) {
        const to = ((pass.top + y * pass.dy) * width + pass.left + x * pass.dx) * channels;
        for (let c = 0; c < channels; c++) {
          const n = x * channels + c;
          if (depth === 8) samples[to + c] = rows[from + n];
          else if (depth === 16) samples[to + c] = rows[from + 2 * n] << 8 | rows[from + 2 * n + 1];
          else samples[to + c] = rows[from + (n * depth >> 3)] >> (8 - depth - (n * depth & 7)) & ((1 << depth) - 1);
        }
      }
    }
    start += sizeOf(pass);
  }
  return samples;
}

function roundHalfEven(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

// Gray of 16 bits: black and white are the ends of the type, or those of the classifier's data set.
function deepToGray(samples, width, height, clear, {integer_range: range}) {
  const [black, white] = range ?? [0, 65535], channels = clear === null ? 1 : 2, data = new Uint8Array(samples.length * channels);
  let outside = 0;
  for (let i = 0; i < samples.length; i++) {
    const value = samples[i];
    outside += value < black || value > white;
    data[i * channels] = roundHalfEven((Math.min(Math.max(value, black), white) - black) * (255 / (white - black)));
    if (clear !== null) data[2 * i + 1] = value === clear ? 0 : 255;
  }
  if (range && outside > samples.length / 2) throw new ImageError(`most values lie outside ${black} to ${white}, the range of the data set`);
  return imageOf(data, width, height, channels);
}

function paletteToColor(samples, width, height, palette, alphas) {
  const channels = alphas ? 4 : 3, data = new Uint8Array(samples.length * channels);
  for (let i = 0; i < samples.length; i++) {
    for (let c = 0; c < 3; c++) data[i * channels + c] = palette[3 * samples[i] + c] ?? 0;
    if (alphas) data[4 * i + 3] = alphas[samples[i]] ?? 255;
  }
  return imageOf(data, width, height, channels);
}

// One gray or color is declared transparent.
function withClear(image, clear) {
  const {data, width, height, channels} = image, found = new Uint8Array(width * height * (channels + 1));
  for (let i = 0; i < width * height; i++) {
    let same = true;
    for (let c = 0; c < channels; c++) {
      found[i * (channels + 1) + c] = data[i * channels + c];
      same &&= data[i * channels + c] === (clear[c] & 255);
    }
    found[i * (channels + 1) + channels] = same ? 0 : 255;
  }
  return imageOf(found, width, height, channels + 1);
}

async function decodePng(bytes, limits) {
  const view = viewOf(bytes);
  if (bytes.length < 33) throw truncated();
  const [width, height, depth, color] = [view.getUint32(16), view.getUint32(20), bytes[24], bytes[25]], channels = PNG_CHANNELS[color];
  checkSize(width, height, limits);
  if (!PNG_DEPTHS[color]?.includes(depth) || bytes[28] > 1) throw damaged();
  const chunks = pngChunks(bytes), find = kind => chunks.find(chunk => chunk.kind === kind)?.content;
  const parts = chunks.filter(({kind}) => kind === 'IDAT').map(({content}) => content), transparent = find('tRNS');
  const samples = await pngSamples(parts, {width, height, depth, channels, interlaced: bytes[28] === 1});
  const clear = transparent && color < 3 ? Array.from({length: channels}, (_, c) => transparent[2 * c] << 8 | transparent[2 * c + 1]) : null;
  let image;
  if (color === 0 && depth === 16) {
    image = deepToGray(samples, width, height, clear && clear[0], limits);
  } else if (color === 3) {
    image = paletteToColor(samples, width, height, find('PLTE') ?? [], transparent);
  } else {
    const data = depth === 16 ? Uint8Array.from(samples, value => value >> 8) : samples, scale = 255 / (2 ** depth - 1);
    if (depth < 8) data.forEach((value, i) => { data[i] = value * scale; });
    image = imageOf(data, width, height, channels);
    if (clear) image = withClear(image, depth === 1 ? [clear[0] * 255] : clear);
  }
  return upright(image, await pngOrientation(chunks));
}


// Formats that the browser decodes: their header is checked and their metadata is removed first, so that no browser turns the image
// or changes its colors.

const FRAMES = [0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf];  // "start of frame" of a JPEG
const XMP_SEGMENT = 'http://ns.adobe.com/xap/1.0/\0', MAX_SCANS = 100;

function nextMarker(bytes, start) {
  for (let i = bytes.indexOf(0xff, start); i >= 0 && i + 1 < bytes.length; i = bytes.indexOf(0xff, i + 1)) {
    const code = bytes[i + 1];
    if (code > 1 && code !== 0xff && !(code >= 0xd0 && code <= 0xd7)) return i;
  }
  throw truncated();
}

function stripJpeg(bytes) {
  const view = viewOf(bytes), parts = [bytes.subarray(0, 2)], facts = {exif: null, xmp: null, width: 0, height: 0, channels: 3};
  let scans = 0, start = nextMarker(bytes, 2);
  for (; bytes[start + 1] !== 0xd9;) {
    const code = bytes[start + 1];
    if (start + 4 > bytes.length) throw truncated();
    const length = view.getUint16(start + 2), frame = FRAMES.includes(code);
    if (code < 0xc0 || code === 0xd8 || length < 2 || (scans && frame)) throw damaged();
    scans += code === 0xda;
    if (scans > MAX_SCANS) throw new ImageError(`a JPEG of more than ${MAX_SCANS} scans`);
    const stop = nextMarker(bytes, start + 2 + length), content = bytes.subarray(start + 4, start + 2 + length);
    if (frame && !facts.width) {
      if (length < 8) throw damaged();
      Object.assign(facts, {height: view.getUint16(start + 5), width: view.getUint16(start + 7), channels: bytes[start + 9]});
      if (![1, 3, 4].includes(facts.channels)) throw new ImageError(`a JPEG of ${facts.channels} components is not supported`);
    }
    if (code === 0xe1 && textOf(content, 0, 6) === 'Exif\0\0') facts.exif ??= content.subarray(6);
    else if (code === 0xe1 && textOf(content, 0, XMP_SEGMENT.length) === XMP_SEGMENT) facts.xmp ??= content.subarray(XMP_SEGMENT.length);
    const metadata = (code > 0xe0 && code < 0xf0 && code !== 0xee) || code === 0xfe;
    if (!metadata) parts.push(bytes.subarray(start, stop));
    start = stop;
  }
  parts.push(bytes.subarray(start, start + 2));
  return {...facts, parts, channels: facts.channels === 1 ? 1 : 3};
}

function stripWebp(bytes) {
  const view = viewOf(bytes), end = 8 + view.getUint32(4, true), kept = [], facts = {exif: null, xmp: null, channels: 3};
  if (end > bytes.length) throw truncated();
  for (let position = 12; position + 8 <= end;) {
    const kind = textOf(bytes, position, position + 4), length = view.getUint32(position + 4, true), stop = position + 8 + length;
    if (stop > end) throw truncated();
    const content = bytes.subarray(position + 8, stop);
    if (kind === 'EXIF') facts.exif = content;
    else if (kind === 'XMP ') facts.xmp = content;
    else if (kind !== 'ICCP') kept.push({kind, content, whole: bytes.subarray(position, Math.min(stop + length % 2, bytes.length))});
    position = stop + length % 2;
  }
  const [{kind, content} = {}] = kept, payload = content && viewOf(content);
  if (!payload || content.length < 10 && kind !== 'VP8L' || content.length < 5) throw damaged();
  if (kind === 'VP8X') {
    Object.assign(facts, {width: 1 + (payload.getUint32(4, true) & 0xffffff), height: 1 + (payload.getUint32(6, true) >>> 8), channels: content[0] & 16 ? 4 : 3});
    kept[0].whole = kept[0].whole.slice();
    kept[0].whole[8] &= ~(32 | 8 | 4);  // no color profile, EXIF or XMP any more
  } else if (kind === 'VP8L' && content[0] === 0x2f) {
    const bits = payload.getUint32(1, true);
    Object.assign(facts, {width: 1 + (bits & 0x3fff), height: 1 + (bits >>> 14 & 0x3fff), channels: bits >>> 28 & 1 ? 4 : 3});
  } else if (kind === 'VP8 ' && content[3] === 0x9d && content[4] === 1 && content[5] === 0x2a) {
    Object.assign(facts, {width: payload.getUint16(6, true) & 0x3fff, height: payload.getUint16(8, true) & 0x3fff});
  } else {
    throw damaged();
  }
  const head = bytes.slice(0, 12), size = kept.reduce((sum, {whole}) => sum + whole.length, 4);
  viewOf(head).setUint32(4, size, true);
  return {...facts, parts: [head, ...kept.map(({whole}) => whole)]};
}

function bmpFacts(bytes) {
  if (bytes.length < 30) throw truncated();
  const view = viewOf(bytes), old = view.getUint32(14, true) === 12;
  const [width, height] = old ? [view.getUint16(18, true), view.getUint16(20, true)] : [view.getInt32(18, true), Math.abs(view.getInt32(22, true))];
  return {width, height, channels: 3, parts: [bytes]};
}

function gifFacts(bytes) {
  if (bytes.length < 13) throw truncated();
  const view = viewOf(bytes);
  return {width: view.getUint16(6, true), height: view.getUint16(8, true), channels: 4, parts: [bytes]};
}

const STRIP = {jpeg: stripJpeg, webp: stripWebp, bmp: bmpFacts, gif: gifFacts};

// `decodeInBrowser(parts, type, width, height)` returns (height, width, 4) bytes, red, green, blue and alpha.
async function decodeOther(bytes, format, limits, decodeInBrowser) {
  let facts;
  try {
    facts = STRIP[format](bytes);
  } catch (problem) {
    throw problem instanceof RangeError ? truncated() : problem;
  }
  const {parts, width, height, channels, exif, xmp} = facts;
  checkSize(width, height, limits);
  const data = await decodeInBrowser(parts, `image/${format}`, width, height);
  return upright(imageOf(data, width, height, channels, 4), orientationOf(exif, xmp));
}

export async function decode(bytes, limits, decodeInBrowser) {
  checkBytes(bytes.length, limits);
  const format = checkFormat(bytes, limits);
  return format === 'png' ? decodePng(bytes, limits) : decodeOther(bytes, format, limits, decodeInBrowser);
}


// Channels

export function toChannels(image, channels) {
  const {data, width, height, step} = image, opaque = image.channels % 2 === 1, color = image.channels > 2;
  if (opaque && image.channels === channels) return image;
  const found = new Uint8Array(width * height * channels), shown = [0, 0, 0];
  for (let i = 0, from = 0; i < width * height; i++, from += step) {
    const alpha = opaque ? 255 : data[from + image.channels - 1];
    for (let c = 0; c < 3; c++) {
      const value = data[from + (color ? c : 0)];
      shown[c] = channels === 4 || opaque ? value : Math.floor((value * alpha + 255 * (255 - alpha) + 127) / 255);  // over white
    }
    if (channels === 1) {
      found[i] = color ? (19595 * shown[0] + 38470 * shown[1] + 7471 * shown[2] + 32768) >> 16 : shown[0];
    } else {
      for (let c = 0; c < 3; c++) found[i * channels + c] = shown[c];
      if (channels === 4) found[4 * i + 3] = alpha;
    }
  }
  return imageOf(found, width, height, channels);
}


// Resizing as Pillow does: a triangle filter that widens with the reduction, weights rounded to integers of 22 bits, first the rows and then
// the columns, each rounded to 8 bits.

const BITS = 22;

function weightsOf(size, newSize) {
  const scale = size / newSize, support = Math.max(scale, 1), inverse = 1 / support, most = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(newSize), counts = new Int32Array(newSize), weights = new Int32Array(newSize * most);
  for (let i = 0; i < newSize; i++) {
    const center = (i + 0.5) * scale, start = Math.max(0, Math.trunc(center - support + 0.5));
    const count = Math.min(size, Math.trunc(center + support + 0.5)) - start, row = new Float64Array(count);
    let sum = 0;
    for (let k = 0; k < count; k++) {
      row[k] = Math.max(0, 1 - Math.abs((k + start - center + 0.5) * inverse));
      sum += row[k];
    }
    for (let k = 0; k < count; k++) weights[i * most + k] = Math.trunc(0.5 + (sum ? row[k] / sum : row[k]) * 2 ** BITS);
    [starts[i], counts[i]] = [start, count];
  }
  return {starts, counts, weights, most};
}

function reduceRows(image, left, top, width, height, newWidth) {
  const {data, step, channels} = image, {starts, counts, weights, most} = weightsOf(width, newWidth), found = new Uint8Array(newWidth * height * channels);
  for (let y = 0, to = 0; y < height; y++) {
    const row = (top + y) * image.width + left;
    for (let x = 0; x < newWidth; x++) {
      const first = (row + starts[x]) * step, count = counts[x], w = x * most;
      for (let c = 0; c < channels; c++) {
        let sum = 1 << (BITS - 1);
        for (let k = 0, from = first + c; k < count; k++, from += step) sum += data[from] * weights[w + k];
        found[to++] = sum >> BITS;
      }
    }
  }
  return imageOf(found, newWidth, height, channels);
}

function reduceColumns(image, newHeight) {
  const {data, width, height, channels} = image, {starts, counts, weights, most} = weightsOf(height, newHeight), stride = width * channels;
  const found = new Uint8Array(stride * newHeight), sums = new Int32Array(stride);
  for (let y = 0; y < newHeight; y++) {
    sums.fill(1 << (BITS - 1));
    for (let k = 0; k < counts[y]; k++) {
      const weight = weights[y * most + k], from = (starts[y] + k) * stride;
      for (let x = 0; x < stride; x++) sums[x] += data[from + x] * weight;
    }
    for (let x = 0; x < stride; x++) found[y * stride + x] = sums[x] >> BITS;
  }
  return imageOf(found, width, newHeight, channels);
}

function cut(image, left, top, width, height) {
  const {data, step, channels} = image;
  if (step === channels && width === image.width && height === image.height) return image;
  const found = new Uint8Array(width * height * channels);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0, from = ((top + y) * image.width + left) * step; x < width; x++, from += step) {
      for (let c = 0; c < channels; c++) found[to++] = data[from + c];
    }
  }
  return imageOf(found, width, height, channels);
}

function scale(image, [left, top, width, height], newWidth, newHeight) {
  const rows = width === newWidth ? cut(image, left, top, width, height) : reduceRows(image, left, top, width, height, newWidth);
  return height === newHeight ? rows : reduceColumns(rows, newHeight);
}

// The box of the image to use as left, top, width and height, and its new width and height.
const RULES = {
  stretch: (width, height, size) => [[0, 0, width, height], size, size],
  crop: (width, height, size) => {
    const side = Math.min(width, height);
    return [[(width - side) >> 1, (height - side) >> 1, side, side], size, size];
  },
  pad: (width, height, size) => [[0, 0, width, height], ...[width, height].map(side => Math.max(1, roundHalfEven(side * size / Math.max(width, height))))]};

export function resize(image, size, rule) {
  const [box, width, height] = RULES[rule](image.width, image.height, size), scaled = scale(image, box, width, height), {channels} = image;
  if (width === size && height === size) return scaled;
  const square = new Uint8Array(size * size * channels), left = (size - width) >> 1, top = (size - height) >> 1;
  for (let y = 0; y < height; y++) {
    square.set(scaled.data.subarray(y * width * channels, (y + 1) * width * channels), ((top + y) * size + left) * channels);
  }
  return imageOf(square, size, size, channels);
}


// The whole way: bytes of a file to (channels, size, size) bytes.
export async function pixelsOf(bytes, preprocess, decodeInBrowser) {
  const {size, channels, resize: rule, limits} = preprocess;
  const image = toChannels(await decode(bytes, limits, decodeInBrowser), channels), {data} = resize(image, size, rule), planes = new Uint8Array(data.length);
  for (let c = 0, to = 0; c < channels; c++) {
    for (let i = c; i < data.length; i += channels) planes[to++] = data[i];
  }
  return planes;
}
