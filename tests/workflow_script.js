// Runs a script of report-comment.yml as actions/github-script would, with a GitHub that only remembers what it is asked to do.
// stdin: {script, payload, artifacts, pulls, comments}; stdout: {calls, notices, warnings, outputs, error}
const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const told = {calls: [], notices: [], warnings: [], outputs: {}};

function answer(name, reply) {
  return async parameters => {
    told.calls.push([name, parameters]);
    return {data: reply ? reply(parameters) : {}};
  };
}

function pull({pull_number}) {
  if (!given.pulls[pull_number]) throw Object.assign(new Error('Not Found'), {status: 404});
  return given.pulls[pull_number];
}

const github = {
  rest: {
    actions: {listWorkflowRunArtifacts: answer('listWorkflowRunArtifacts', () => ({artifacts: given.artifacts}))},
    pulls: {get: answer('getPull', pull)},
    issues: {
      listComments: answer('listComments', () => given.comments),
      createComment: answer('createComment'),
      updateComment: answer('updateComment'),
    },
  },
  paginate: async (method, parameters) => (await method(parameters)).data,
};
const core = {
  info() {},
  notice: text => { told.notices.push(text); },
  warning: text => { told.warnings.push(text); },
  setOutput: (name, value) => { told.outputs[name] = value; },
};
const context = {repo: {owner: 'owner', repo: 'project'}, payload: given.payload};
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
new AsyncFunction('require', 'github', 'core', 'context', given.script)(require, github, core, context)
  .catch(error => { told.error = String(error); })
  .then(() => console.log(JSON.stringify(told)));
