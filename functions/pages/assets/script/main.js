// Starts the page.

import { startForgotPassword } from './forgot_password.js';
import { startSignIn } from './sign_in.js';
import { startChangePassword, startSessions } from './signed_in.js';
import { leaveNotice, onLeave } from './tokens.js';
import { page } from './views.js';

const starts = {
  sign_in: startSignIn,
  forgot_password: startForgotPassword,
  change_password: startChangePassword,
  sessions: startSessions,
};
starts[page.page]();

onLeave((isOther) => {
  if (!isOther) leaveNotice('signed_out_elsewhere');
  location.reload();
});

// A page from before a sign-out, by the back button.
addEventListener('pageshow', ({ persisted }) => {
  if (persisted) location.reload();
});
