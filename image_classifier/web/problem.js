// What went wrong, for the page to show: `status` as in HTTP, `seconds` to wait, `again`: whether trying again may help.
export class Problem extends Error {
  constructor(title, detail = '', {status = 0, seconds = 0, again = false} = {}) {
    super(title);
    Object.assign(this, {title, detail, status, seconds, again});
  }
}
