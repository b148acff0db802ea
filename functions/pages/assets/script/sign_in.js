// The page to sign in, which is the one of the account for those who are signed in.

import { call } from './service.js';
import { text } from './texts.js';
import { account, information, keep, rememberedUsername, rememberUsername, renew, signOut, takeNotice, tokens } from './tokens.js';
import { clearMessages, fail, onPress, onSubmit, page, show, tell, warn } from './views.js';

export async function startSignIn() {
  const notice = takeNotice();
  const known = account();
  if (known && !known.token && known.stays) {
    tell(text('one_moment'));
    const renewed = await renew();
    clearMessages();
    if (!renewed.ok) {
      askToSignIn();
      if (renewed.status === 401) tell(text(renewed.code));
      else fail(renewed);
      return;
    }
  }
  if (account()?.token) {
    welcome();
  } else {
    askToSignIn();
    if (known) tell(text('token_expired'));
    if (page.returnRefused !== undefined) warn(text('return_refused'));
  }
  if (notice) tell(text(notice));
}

// The name of the application that the user signs in for, if there is one.
function host() {
  return page.returnOrigin?.replace(/^[a-z0-9+.-]+:\/\//, '');
}

function askToSignIn() {
  const view = show('sign-in', { username: rememberedUsername(), host: host() });
  view['forgot-password'].addEventListener('click', () => rememberUsername(view.username.value.trim()));
  onSubmit(view['sign-in'], async ({ username, password, stay_logged_in }) => {
    const session = { stay_logged_in, session_information: information() };
    const answer = await call('POST', '/api/auth/signin', { body: { username, password, ...session } });
    if (answer.ok) enter(answer, username);
    else if (answer.code === 'change_password') askForNewPassword(username, password, session);
    else fail(answer, view['sign-in']);
  });
}

function askForNewPassword(username, old_password, session) {
  const view = show('forced-change', { username });
  view.restart.addEventListener('click', askToSignIn);
  onSubmit(view['forced-change'], async ({ new_password }) => {
    const passwords = { username, old_password, new_password };
    const answer = await call('POST', '/api/auth/changePasswordAfterSignin', { body: { ...passwords, ...session } });
    if (answer.ok) {
      enter(answer, username);
    } else if (['no_password_change_needed_for_user', 'username_or_password_incorrect'].includes(answer.code)) {
      askToSignIn();
      fail(answer);
    } else {
      fail(answer, view['forced-change'], passwords);
    }
  });
}

function enter(answer, username) {
  keep(answer.body, username);
  rememberUsername(null);
  if (page.next) location.assign(page.next);
  else welcome();
}

function welcome() {
  const { username } = account();
  const view = show(host() ? 'return' : 'signed-in', { username, host: host() });
  onPress(view['sign-out'], async () => {
    const isCertain = await signOut();
    askToSignIn();
    tell(text(isCertain ? 'signed_out' : 'signed_out_only_here'));
  });
  if (host()) onPress(view.return, () => handOver(page.returnOrigin));
}

// Gives the tokens to the application that opened the page. The browser delivers them to a document of this origin only.
async function handOver(origin) {
  if (!window.opener) {
    warn(text('return_without_opener'));
    return;
  }
  const renewed = account()?.token ? { ok: true } : await renew();
  if (!renewed.ok) {
    if (renewed.status === 401) askToSignIn();
    fail(renewed);
    return;
  }
  window.opener.postMessage({ type: 'postern:signed_in', ...tokens() }, origin);
  tell(text('returned'));
  window.close();
}
