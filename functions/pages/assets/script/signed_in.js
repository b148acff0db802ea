// The pages of those who are signed in: their password and their sessions.

import { call } from './service.js';
import { fill, text } from './texts.js';
import { account, authorised, forget, information, keep, leaveNotice, ownSessionId, renew, signOut } from './tokens.js';
import { clearMessages, fail, onPress, onSubmit, page, show, tell, warn } from './views.js';

const SESSIONS = '/api/v1/user/myself/session';

// Returns whether the user is signed in, and else sends them to sign in and come back.
async function isSignedIn() {
  if (account()?.token) return true;
  tell(text('one_moment'));
  const renewed = await renew();
  clearMessages();
  if (!renewed.ok && renewed.status !== 401) warn(text(renewed.code));
  return renewed.ok || leave(renewed);
}

// Sends the user to sign in again and come back if that is why a request was refused. Returns false.
function leave(answer) {
  if (answer.status === 401) {
    forget();
    leaveNotice(answer.code);
    location.replace(page.signIn);
  }
  return false;
}

export async function startChangePassword() {
  if (!(await isSignedIn())) return;
  const { username, stays } = account();
  const view = show('change', { username });
  onSubmit(view.change, async ({ old_password, new_password }) => {
    const body = { old_password, new_password };
    const answer = await authorised('POST', '/api/v1/user/myself/changePassword/changePassword', body);
    if (answer.status === 401) {
      leave(answer);
    } else if (!answer.ok) {
      fail(answer, view.change, body);
    } else {
      if (stays) await stayIn(username, new_password);
      show('done');
    }
  });
}

// A change ends all sessions, so that a user who stays signed in here needs a new one. The token is good in any case.
async function stayIn(username, password) {
  const session = { stay_logged_in: true, session_information: information() };
  const answer = await call('POST', '/api/auth/signin', { body: { username, password, ...session } });
  if (answer.ok) keep(answer.body, username);
}

export async function startSessions() {
  if (!(await isSignedIn())) return;
  await showSessions();
}

async function showSessions(message) {
  const answer = await authorised('GET', SESSIONS);
  if (answer.status === 401) {
    leave(answer);
    return;
  }
  const view = show('sessions', account());
  onPress(view['sign-out'], leaveForGood);
  if (!answer.ok) {
    fail(answer);
    return;
  }
  const own = ownSessionId();
  const sessions = answer.body.sessions;
  sessions.sort((one, two) => (two.id === own) - (one.id === own) || (one.last_used < two.last_used ? 1 : -1));
  view.sessions.replaceChildren(...sessions.map((session) => row(session, session.id === own && view['sign-out'])));
  view.empty.hidden = sessions.length > 0;
  const others = sessions.filter((session) => session.id !== own);
  view['end-others-line'].hidden = others.length === 0;
  onPress(view['end-others'], () => end(others, 'other_sessions_ended'));
  if (message) tell(text(message));
}

// The line of a session. Signing out ends this device's own, so that its button stands there.
function row(session, signOutButton) {
  const element = document.getElementById('session-view').content.cloneNode(true).firstElementChild;
  const name = session.information || text('unknown_device');
  element.querySelector('[data-name]').textContent = name;
  element.querySelector('.mark').hidden = !signOutButton;
  const { lang } = document.documentElement;
  // Readers of one language write times in different ways.
  const locale = navigator.languages.find((tag) => tag.split('-')[0] === lang) ?? lang;
  const form = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' });
  const used = element.querySelector('time');
  used.dateTime = session.last_used;
  used.textContent = fill(used.textContent, { time: form.format(new Date(session.last_used)) });
  const button = element.querySelector('button');
  if (signOutButton) {
    signOutButton.className = button.className;
    button.replaceWith(signOutButton);
  } else {
    button.setAttribute('aria-label', text('end_named', { name }));
    onPress(button, () => end([session], 'session_ended'));
  }
  return element;
}

async function end(sessions, message) {
  for (const { id } of sessions) {
    const answer = await authorised('DELETE', `${SESSIONS}/${id}`);
    if (answer.status === 401) {
      leave(answer);
      return;
    }
    if (!answer.ok && answer.code !== 'session_token_not_found') {
      await showSessions();
      fail(answer);
      return;
    }
  }
  await showSessions(message);
}

async function leaveForGood() {
  const isCertain = await signOut();
  leaveNotice(isCertain ? 'signed_out' : 'signed_out_only_here');
  location.assign(page.home);
}
