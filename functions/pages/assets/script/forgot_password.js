// The page to reset a password that was forgotten: a code by e-mail, then a new password.

import { call } from './service.js';
import { text } from './texts.js';
import { rememberedUsername, rememberUsername } from './tokens.js';
import { fail, onPress, onSubmit, show, tell } from './views.js';

const PATH = '/api/auth/forgotPassword';

export function startForgotPassword() {
  const view = show('request', { username: rememberedUsername() });
  view.username.focus();
  onSubmit(view.request, async ({ username }) => {
    const answer = await call('POST', `${PATH}/sendEmail`, { body: { username } });
    rememberUsername(username);
    if (answer.ok) askForCode(username);
    else fail(answer, view.request, { username });
  });
}

function askForCode(username) {
  const view = show('check', { username });
  view.restart.addEventListener('click', startForgotPassword);
  onPress(view.resend, async () => {
    const answer = await call('POST', `${PATH}/sendEmail`, { body: { username } });
    if (answer.ok) {
      view.code.value = '';
      view.code.focus();
      tell(text('code_sent'));
    } else {
      fail(answer);
    }
  });
  onSubmit(view.check, async ({ code }) => {
    const answer = await call('POST', `${PATH}/checkCode`, { body: { username, code } });
    if (answer.ok) askForPassword(username, code);
    else fail(answer, view.check, { username, code });
  });
}

function askForPassword(username, code) {
  const view = show('reset', { username });
  onSubmit(view.reset, async ({ new_password }) => {
    const body = { username, code, new_password };
    const answer = await call('POST', `${PATH}/resetPassword`, { body });
    if (answer.ok) {
      show('done');
    } else if (['code_incorrect', 'no_code_requested', 'unknown_username'].includes(answer.code)) {
      askForCode(username);
      fail(answer);
    } else {
      fail(answer, view.reset, body);
    }
  });
}
