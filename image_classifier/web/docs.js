// Show openapi.json for reading: operations, then schemas. Its texts are shown as text, never as markup.

const main = document.querySelector('main'), state = document.getElementById('status');
const METHODS = ['get', 'post', 'put', 'patch', 'delete', 'head', 'options', 'trace'];
let api = {};

// An element with attributes and children; texts become text nodes, `null` is left out.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter(child => child != null));
  return element;
}

// `code` in backticks is the one piece of Markdown that descriptions need.
function prose(text) {
  if (!text) return null;
  return make('p', {}, ...text.trim().split(/`([^`]+)`/).map((part, i) => (i % 2 ? make('code', {}, part) : part)));
}

const anchor = text => text.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '');
const link = (id, ...children) => make('a', {href: `#${id}`}, ...children);
const code = text => make('code', {}, text);

// What a reference inside the file points to.
function resolved(value) {
  if (!value?.$ref) return value ?? {};
  const keys = value.$ref.replace(/^#\//, '').split('/').map(key => key.replaceAll('~1', '/').replaceAll('~0', '~'));
  return resolved(keys.reduce((found, key) => found?.[key], api));
}


// Schemas

const joined = (parts, word) => parts.flatMap((part, i) => (i ? [word, ...part] : part));

// The type in words, as nodes: a reference becomes a link. Limits follow in brackets.
function typeOf(schema) {
  const limits = limitsOf(schema ?? {});
  return [...kindOf(schema ?? {}), ...limits ? [` (${limits})`] : []];
}

function kindOf(schema) {
  if (schema === true) return ['any'];
  if (schema.$ref) {
    const name = schema.$ref.split('/').at(-1);
    return [link(`schema-${anchor(name)}`, name)];
  }
  for (const [key, word] of [['anyOf', ' or '], ['oneOf', ' or '], ['allOf', ' and ']]) {
    if (schema[key]) return joined(schema[key].map(typeOf), word);
  }
  if (schema.enum) return joined(schema.enum.map(value => [code(JSON.stringify(value))]), ' or ');
  if ('const' in schema) return [code(JSON.stringify(schema.const))];
  if (schema.type === 'array') return ['list of ', ...typeOf(schema.items)];
  if (schema.additionalProperties && !schema.properties) return ['map of text to ', ...typeOf(schema.additionalProperties)];
  if (schema.format === 'binary' || schema.contentMediaType) return ['file'];
  return [[schema.type ?? 'any'].flat().join(' or ')];
}

const LIMITS = {minimum: '≥', exclusiveMinimum: '>', maximum: '≤', exclusiveMaximum: '<', minLength: 'characters ≥', maxLength: 'characters ≤',
                minItems: 'items ≥', maxItems: 'items ≤', pattern: 'matches', format: 'format', default: 'default'};

function limitsOf(schema) {
  return Object.entries(LIMITS).filter(([key]) => schema[key] != null && schema[key] !== 'binary')
    .map(([key, word]) => `${word} ${typeof schema[key] === 'string' ? schema[key] : JSON.stringify(schema[key])}`).join(', ');
}

// A table of cells, each a list of nodes. A column without any content is left out.
function table(caption, titles, rows) {
  if (!rows.length) return null;
  const used = titles.map((_, i) => rows.some(row => row[i].some(Boolean)));
  const head = titles.filter((_, i) => used[i]).map(title => make('th', {scope: 'col'}, title));
  const body = rows.map(row => row.filter((_, i) => used[i])).map(([first, ...cells]) => make('tr', {}, make('th', {scope: 'row'}, ...first), ...cells.map(cell => make('td', {}, ...cell.filter(Boolean)))));
  return make('table', {'aria-label': caption}, make('thead', {}, make('tr', {}, ...head)), make('tbody', {}, ...body));
}

// The fields of an object; those of a nested one follow under its name.
function fields(schema, prefix = '') {
  const parts = schema.allOf ? schema.allOf.map(resolved) : [schema];
  return parts.flatMap(part => Object.entries(part.properties ?? {}).flatMap(([name, value]) => {
    const needed = part.required?.includes(name) ? '' : ' (optional)', inner = value.items?.properties ? value.items : value;
    return [[[code(prefix + name), needed], typeOf(value), [prose(value.description)]],
            ...(inner.properties ? fields(inner, `${prefix}${name}.`) : [])];
  }));
}

function content(holder, caption) {
  return Object.entries(holder?.content ?? {}).flatMap(([type, {schema}]) => [
    make('p', {}, code(type), ': ', ...typeOf(schema)), schema?.$ref ? null : table(caption, ['Field', 'Type', 'Meaning'], fields(schema ?? {}))]);
}


// Operations

function operation(path, method, about, shared) {
  const name = `${method.toUpperCase()} ${path}`, parameters = [...shared, ...about.parameters ?? []].map(resolved), body = resolved(about.requestBody);
  const rows = parameters.map(one => [[code(one.name), one.required ? '' : ' (optional)'], [one.in], typeOf(one.schema), [prose(one.description)]]);
  const answers = Object.entries(about.responses ?? {}).map(([status, response]) => [[code(status)], [prose(resolved(response).description), ...content(resolved(response), `Answer ${status}`)]]);
  return make('section', {class: 'entry', 'aria-labelledby': anchor(name)},
    make('h2', {id: anchor(name)}, make('span', {class: 'method'}, method.toUpperCase()), code(path)),
    prose(about.summary), prose(about.description), about.deprecated ? prose('Deprecated.') : null,
    rows.length ? make('h3', {}, 'Parameters') : null, table(`Parameters of ${name}`, ['Name', 'In', 'Type', 'Meaning'], rows),
    about.requestBody ? make('h3', {}, body.required ? 'Request body' : 'Request body (optional)') : null, prose(body.description), ...content(body, `Body of ${name}`),
    make('h3', {}, 'Answers'), table(`Answers of ${name}`, ['Status', 'Content'], answers));
}

function schemaEntry([name, schema]) {
  const rows = fields(schema), id = `schema-${anchor(name)}`;
  return make('section', {class: 'entry', 'aria-labelledby': id}, make('h2', {id}, code(name)), prose(schema.description),
    table(`Fields of ${name}`, ['Field', 'Type', 'Meaning'], rows), rows.length ? null : make('p', {}, ...typeOf(schema)));
}

function securityEntry([name, value]) {
  const scheme = resolved(value), how = {apiKey: `${scheme.in} ${scheme.name}`, http: `Authorization: ${scheme.scheme}`}[scheme.type] ?? scheme.type;
  return [[code(name)], [code(how)], [prose(scheme.description)]];
}

function show() {
  const {info = {}, paths = {}, components = {}} = api;
  const operations = Object.entries(paths).flatMap(([path, item]) => METHODS.filter(method => item[method]).map(method => [path, method, item[method], item.parameters ?? []]));
  const schemas = Object.entries(components.schemas ?? {}), security = Object.entries(components.securitySchemes ?? {});
  document.title = `${info.title ?? 'API'}: reference`;
  document.getElementById('title').textContent = [info.title ?? 'API', info.version].filter(Boolean).join(' ');
  main.append(...[
    prose(info.description),
    make('nav', {'aria-label': 'Operations'}, make('ul', {class: 'contents', role: 'list'},
      ...operations.map(([path, method]) => make('li', {}, link(anchor(`${method} ${path}`), code(`${method.toUpperCase()} ${path}`)))),
      schemas.length ? make('li', {}, link('schemas', 'Schemas')) : null)),
    security.length ? make('section', {class: 'entry'}, make('h2', {}, 'Keys'), table('Keys', ['Name', 'Sent as', 'Meaning'], security.map(securityEntry))) : null,
    ...operations.map(one => operation(...one)),
    schemas.length ? make('h2', {class: 'group', id: 'schemas'}, 'Schemas') : null,
    ...schemas.map(schemaEntry)].filter(Boolean));
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

try {
  const response = await fetch('openapi.json');
  if (!response.ok) throw new Error(`error ${response.status}`);
  api = await response.json();
  show();
  state.remove();
} catch (problem) {
  state.textContent = `openapi.json cannot be shown: ${problem.message}. Reload the page to try again.`;
}
