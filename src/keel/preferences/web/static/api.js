/** Calls to the server. What it refuses is a `Refusal`, and so is a server that cannot be reached (status 0). */

const PATIENCE = 15_000;

export class Refusal extends Error {
  /** `wait`: seconds after which to try again, where the server says. */
  constructor(status, sentence, wait = null) {
    super(sentence);
    this.status = status;
    this.wait = wait;
  }

  /** Whether the same call may succeed later. */
  get passing() {
    return this.status === 0 || this.status === 401 || this.status === 429 || this.status >= 500 || this.held;
  }

  /** Whether this person may not go on for the moment: paused or excluded. */
  get held() {
    return this.status === 403;
  }
}

export class Api {
  constructor(csrf) {
    this.csrf = csrf;
  }

  get(path) {
    return this.#call("GET", path);
  }

  /** A call that a closing page still finishes. */
  async post(path, body = {}) {
    try {
      return await this.#call("POST", path, body);
    } catch (error) {
      // After signing in anew in another tab the old CSRF token is refused once.
      if (!(error instanceof Refusal && error.status === 403) || !(await this.#renewed())) throw error;
      return this.#call("POST", path, body);
    }
  }

  async #renewed() {
    const { csrf } = await this.get("/api/me");
    const changed = csrf !== this.csrf;
    this.csrf = csrf;
    return changed;
  }

  async #call(method, path, body) {
    const request = { method, headers: { Accept: "application/json" }, signal: AbortSignal.timeout(PATIENCE) };
    if (method !== "GET") {
      request.headers["Content-Type"] = "application/json";
      request.headers["X-CSRF-Token"] = this.csrf;
      request.body = JSON.stringify(body);
      request.keepalive = request.body.length < 60_000;
    }
    let response;
    try {
      response = await fetch(path, request);
    } catch {
      throw new Refusal(0, "the server cannot be reached.");
    }
    const said = await response.json().catch(() => null);
    if (response.ok && said !== null) return said;
    const wait = Number(response.headers.get("Retry-After")) || null;
    const sentence = said?.error ?? `the server answered with an error (${response.status}).`;
    throw new Refusal(response.ok ? 502 : response.status, sentence, wait);
  }
}
