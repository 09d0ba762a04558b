// Runs a script of report-comment.yml as actions/github-script would, once for each case, with a GitHub that only remembers what it is asked.
// stdin: {script, cases: [{payload, artifacts, pulls, comments, folder}]}; stdout: for each case {calls, notices, warnings, outputs, error}
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;

async function play(script, given) {
  const told = {calls: [], notices: [], warnings: [], outputs: {}};
  const answer = (name, reply) => async parameters => {
    told.calls.push([name, parameters]);
    return {data: reply ? reply(parameters) : {}};
  };
  const pull = ({pull_number}) => {
    if (!given.pulls[pull_number]) throw Object.assign(new Error('Not Found'), {status: 404});
    return given.pulls[pull_number];
  };
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
  process.env.FOLDER = given.folder;
  try {
    await new AsyncFunction('require', 'github', 'core', 'context', script)(require, github, core, context);
  } catch (error) {
    told.error = String(error);
  }
  return told;
}

async function main() {
  const {script, cases} = JSON.parse(require('fs').readFileSync(0, 'utf8'));
  const told = [];
  for (const given of cases) told.push(await play(script, given));
  console.log(JSON.stringify(told));
}

main();
