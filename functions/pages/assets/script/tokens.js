// The tokens of the user who is signed in. The JSON Web Token is in memory and, because each page is a document of its
// own, in this tab's session storage; the session token, for those who stay signed in, is in the local storage.

import { call, failure } from './service.js';

const KEY = 'postern';
const SIGNED_OUT = 'postern.signed_out';
const NOTICE = 'postern.notice';
const USERNAME = 'postern.username';

// A token is renewed this long before it expires.
const MARGIN_MS = 60_000;

// A browser can refuse the storage. Then users are signed in for this page only.
const memory = { local: {}, session: {} };

function read(kind, key) {
  try {
    return JSON.parse(storage(kind).getItem(key)) ?? memory[kind][key] ?? null;
  } catch {
    return memory[kind][key] ?? null;
  }
}

function write(kind, key, value) {
  memory[kind][key] = value;
  try {
    if (value === null) storage(kind).removeItem(key);
    else storage(kind).setItem(key, JSON.stringify(value));
  } catch {
    // The memory has it.
  }
}

function storage(kind) {
  return kind === 'local' ? localStorage : sessionStorage;
}

// The user who is signed in, or could be by a session token.
export function account() {
  const signedIn = read('session', KEY) ?? read('local', KEY);
  return signedIn && { username: signedIn.username, token: freshToken(), stays: sessionToken() !== null };
}

function sessionToken() {
  return read('local', KEY)?.session_token ?? null;
}

// Times are compared with this clock alone, which can be wrong.
function freshToken() {
  const kept = read('session', KEY);
  if (!kept) return null;
  const { iat, exp } = claims(kept.token);
  return Date.now() - kept.since < (exp - iat) * 1000 - MARGIN_MS ? kept.token : null;
}

function claims(token) {
  try {
    return JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
  } catch {
    return {};
  }
}

// The id of the session that the token belongs to, if there is one.
export function ownSessionId() {
  const sid = claims(read('session', KEY)?.token ?? '').sid;
  return sid ? Number(sid.split('.')[1]) : null;
}

// Keeps the tokens of a sign-in.
export function keep({ token, session_token }, username) {
  write('session', KEY, { username, token, since: Date.now() });
  write('local', KEY, session_token ? { username, session_token } : null);
}

// Both tokens, for the application that opened the page.
export function tokens() {
  const session_token = sessionToken();
  return session_token ? { token: freshToken(), session_token } : { token: freshToken() };
}

export function forget() {
  write('session', KEY, null);
  write('local', KEY, null);
}

// Gets a new token for the session token. A refusal has the status 401.
export async function renew() {
  const kept = read('local', KEY);
  if (!kept) return failure(401, read('session', KEY) ? 'token_expired' : 'sign_in_first');
  const body = { session_token: kept.session_token, session_information: information() };
  const answer = await call('POST', '/api/auth/IamLoggedIn', { body });
  if (answer.ok) {
    write('session', KEY, { username: kept.username, token: answer.body.token, since: Date.now() });
  } else if (answer.code === 'session_token_incorrect') {
    forget();
    return { ...answer, status: 401 };
  }
  return answer;
}

// Sends a request of the user who is signed in.
export async function authorised(method, path, body) {
  const token = freshToken();
  const answer = token && (await call(method, path, { body, token }));
  if (answer && (answer.status !== 401 || !sessionToken())) return answer;
  const renewed = await renew();
  return renewed.ok ? call(method, path, { body, token: renewed.body.token }) : renewed;
}

// Signs out: forgets the tokens, tells the other tabs, and ends the session. Returns whether that is certain.
export async function signOut() {
  const session_token = sessionToken();
  let token = freshToken();
  forget();
  write('local', SIGNED_OUT, Date.now());
  write('local', SIGNED_OUT, null);
  if (!session_token) return true;
  if (!token) {
    const renewed = await call('POST', '/api/auth/IamLoggedIn', { body: { session_token } });
    if (!renewed.ok) return renewed.code === 'session_token_incorrect';
    token = renewed.body.token;
  }
  const path = '/api/v1/user/myself/session/logoutCurrentSession';
  const answer = await call('POST', path, { body: { session_token }, token });
  return answer.ok || answer.status === 401 || answer.status === 404;
}

// Calls `left` when the user signs out, or another one signs in, in another tab.
export function onLeave(left) {
  addEventListener('storage', ({ storageArea, key, newValue }) => {
    if (storageArea !== localStorage) return;
    const other = key === KEY && newValue !== null && JSON.parse(newValue).username !== account()?.username;
    if ((key === SIGNED_OUT && newValue !== null) || key === null || other) {
      const wasSignedIn = read('session', KEY) !== null;
      write('session', KEY, null);
      memory.local = {};
      if (wasSignedIn) left(other);
    }
  });
}

// The key of a text for the next page.
export function leaveNotice(key) {
  write('session', NOTICE, key);
}

export function takeNotice() {
  const notice = read('session', NOTICE);
  write('session', NOTICE, null);
  return notice;
}

// A username that was typed on another page of this tab.
export function rememberUsername(username) {
  write('session', USERNAME, username);
}

export function rememberedUsername() {
  return read('session', USERNAME) ?? '';
}

// The name of this browser in the list of sessions, such as "Firefox 140, Linux".
export function information() {
  const agent = navigator.userAgent;
  const find = (names) => names.find(([mark]) => agent.includes(mark));
  const browser = find([
    ['Edg/', 'Edge'],
    ['OPR/', 'Opera'],
    ['SamsungBrowser/', 'Samsung Internet'],
    ['Firefox/', 'Firefox'],
    ['FxiOS/', 'Firefox'],
    ['CriOS/', 'Chrome'],
    ['Chrome/', 'Chrome'],
    ['Version/', 'Safari'],
  ]);
  const system = find([
    ['Android', 'Android'],
    ['iPhone', 'iPhone'],
    ['iPad', 'iPad'],
    ['CrOS', 'ChromeOS'],
    ['Windows', 'Windows'],
    ['Mac OS X', 'macOS'],
    ['Linux', 'Linux'],
  ]);
  const version = browser && Number.parseInt(agent.split(browser[0])[1], 10);
  return [browser && `${browser[1]} ${version}`, system?.[1]].filter(Boolean).join(', ') || 'Browser';
}
