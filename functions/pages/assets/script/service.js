// Requests to the API.

// A function has 20 seconds, and API Gateway waits for it for 30.
const TIME_LIMIT_MS = 25_000;

// Sends a request. The answer has `ok`, `status`, `body`, and of an error `code`, the key of its text, and the seconds to
// wait, if it has any.
export async function call(method, path, { body, token } = {}) {
  const headers = {};
  if (body) headers['Content-Type'] = 'application/json';
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  let json;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      credentials: 'omit',
      cache: 'no-store',
      signal: AbortSignal.timeout(TIME_LIMIT_MS),
    });
    json = await response.text();
  } catch (error) {
    const late = error.name === 'TimeoutError';
    return failure(0, late ? 'timed_out' : navigator.onLine ? 'no_answer' : 'offline');
  }
  const answer = parse(json);
  if (!answer) return failure(response.status, 'unreadable_answer');
  if (response.ok) return { ok: true, status: response.status, body: answer };
  const wait = Number.parseInt(response.headers.get('Retry-After'), 10);
  return { ...failure(response.status, codeOf(response.status, answer)), body: answer, wait };
}

export function failure(status, code) {
  return { ok: false, status, code, body: {} };
}

function parse(json) {
  try {
    const value = JSON.parse(json);
    return value !== null && typeof value === 'object' ? value : null;
  } catch {
    return null;
  }
}

function codeOf(status, body) {
  if (typeof body.error_code === 'string') return body.error_code;
  // The one error of the API that has no code. The others are API Gateway's.
  if (status === 400 && 'msg' in body) return 'no_code_requested';
  if (status === 429) return 'too_many_requests';
  return status === 503 ? 'service_unavailable' : 'unknown_error';
}
