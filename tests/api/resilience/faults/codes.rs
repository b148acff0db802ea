//! Reset codes: sent, checked, and used for a reset.

use support::Fault;

use super::{
    Account, CHARGE_ADDRESS, CODE_KEY, FAILURES, GET_USER, GIVE_BACK_TRY, MAIL, OTHER_MAIL, READ_ADDRESS,
    REFUSED_MAIL, REPLACE_CODE, RESERVE_TRY, RESTORE_CODE, Scenario, Struck, TRANSACTION, TRIES, available,
};
use crate::answers::{
    CHANGED_PASSWORD, CODE_CORRECT, CODE_INCORRECT, NO_CODE_REQUESTED, RATE_LIMIT_EXCEEDED, SENT,
    SERVICE_UNAVAILABLE,
};
use crate::helpers::{Mail, NEW_PASSWORD, PASSWORD, Service, User, WRONG_CODE};

/// A user with a code of which two tries are used from a known network, from which it was requested, and three from
/// elsewhere.
struct EarlierCode {
    user: User,
    code: String,
    code_id: Option<String>,
    elsewhere: Service,
}

/// The state of a user's codes after a request for another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Codes {
    /// The earlier code counts, with its tries.
    Earlier,
    /// There is no code, and the send does not count.
    None,
    /// The new code counts, and so does its send.
    New,
}

impl EarlierCode {
    async fn new(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        service.token_of(&user).await;
        let code = service.code_for(&user).await;
        let elsewhere = service.seen_from_elsewhere();
        service.set_tries(&user, 2).await;
        elsewhere.set_tries(&user, 3).await;
        Self { code_id: code_id(service, &user).await, user, code, elsewhere }
    }

    async fn assert_codes(&self, service: &Service, expected: Codes) {
        let Self { user, code, code_id, elsewhere } = self;
        let stored = self::code_id(service, user).await;
        let codes = match &stored {
            None => Codes::None,
            stored if stored == code_id => Codes::Earlier,
            _ => Codes::New,
        };
        assert_eq!(codes, expected);
        let tries = (service.tries(user).await, elsewhere.tries(user).await);
        assert_eq!(tries, if expected == Codes::Earlier { (2, 3) } else { (0, 0) }, "tries");
        assert_eq!(service.sends(user).await, 1 + usize::from(expected == Codes::New), "sends");
        let earlier = service.check_code(&user.username, code).await;
        earlier.is(match expected {
            Codes::Earlier => CODE_CORRECT,
            Codes::None => NO_CODE_REQUESTED,
            Codes::New => CODE_INCORRECT,
        });
    }
}

/// A reset code in place of an earlier one.
pub(super) struct Sending(EarlierCode);

impl Scenario for Sending {
    type Reply = ();

    const NEEDS: &[&str] = &[CHARGE_ADDRESS, GET_USER, CODE_KEY, REPLACE_CODE, MAIL];

    async fn prepare(service: &Service) -> Self {
        Self(EarlierCode::new(service).await)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.send_email(&self.0.user.username).await)?.is(SENT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let written = !struck.fails_any(&[CHARGE_ADDRESS, GET_USER, CODE_KEY, REPLACE_CODE]);
        let replaced = (written && !struck.refused(MAIL)) || struck.lost(REPLACE_CODE);
        let user = &self.0.user;
        let codes: Vec<_> = service.mails_to(&user.email).await[1..].iter().map(Mail::code).collect();
        assert_eq!(codes.len(), if written { struck.mails() } else { 0 }, "mails");
        assert!(reply.is_none() || !codes.is_empty());
        for sent in &codes {
            service.check_code(&user.username, sent).await.is(CODE_CORRECT);
        }
        self.0.assert_codes(service, if replaced { Codes::New } else { Codes::Earlier }).await;
        let again = service.code_for(user).await;
        service.reset_password(&user.username, &again, NEW_PASSWORD).await.is(CHANGED_PASSWORD);
    }
}

/// A reset code to two addresses, either of which may fail.
pub(super) struct SendingToTwo(EarlierCode);

impl Scenario for SendingToTwo {
    type Reply = ();

    const NEEDS: &[&str] = &[CHARGE_ADDRESS, GET_USER, CODE_KEY, REPLACE_CODE];

    async fn prepare(service: &Service) -> Self {
        let earlier = EarlierCode::new(service).await;
        let elsewhere = format!("{}@example.org", earlier.user.username);
        service.set_stored_addresses(&earlier.user, &[&elsewhere, &earlier.user.email]).await;
        Self(earlier)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.send_email(&self.0.user.username).await)?.is(SENT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let user = &self.0.user;
        let replaced = reply.is_some() || struck.lost(REPLACE_CODE);
        let mut mails = service.mails_to(&user.email).await.split_off(1);
        let first = mails.len();
        mails.extend(service.mails_to(&format!("{}@example.org", user.username)).await);
        let arrives = |mail| usize::from(reply.is_some() && struck.applied(mail));
        assert_eq!([first, mails.len() - first], [MAIL, OTHER_MAIL].map(arrives), "mails");
        for mail in &mails {
            service.check_code(&user.username, &mail.code()).await.is(CODE_CORRECT);
        }
        self.0.assert_codes(service, if replaced { Codes::New } else { Codes::Earlier }).await;
    }
}

/// A reset code to the only address of a user, which the mail service refuses.
pub(super) struct SendingRefused(EarlierCode);

impl Scenario for SendingRefused {
    type Reply = ();

    /// It is unavailable in any case.
    const NEEDS: &[&str] = &[];

    async fn prepare(service: &Service) -> Self {
        let earlier = EarlierCode::new(service).await;
        service.make_unreachable(&earlier.user).await;
        Self(earlier)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let answer = service.send_email(&self.0.user.username).await;
        answer.is_refused_for(SERVICE_UNAVAILABLE);
        Some(())
    }

    async fn check(self, service: &Service, _: Option<()>, struck: &Struck) {
        let lost_once = struck.0.as_ref().is_some_and(|plan| {
            plan.operation == REPLACE_CODE && plan.fault == Fault::CutAfter && plan.attempts == 1
        });
        let expected = if lost_once {
            // The earlier code was in the response that was lost.
            Codes::None
        } else if struck.fails_any(&[CHARGE_ADDRESS, GET_USER, CODE_KEY]) {
            Codes::Earlier
        } else if struck.late(REPLACE_CODE) {
            // Applied, perhaps again, after the earlier code was restored.
            Codes::New
        } else if struck.fails(REPLACE_CODE) {
            if struck.lost(REPLACE_CODE) { Codes::New } else { Codes::Earlier }
        } else if (struck.fails(REFUSED_MAIL) && !struck.refused(REFUSED_MAIL))
            || !struck.applied(RESTORE_CODE)
        {
            Codes::New
        } else {
            Codes::Earlier
        };
        self.0.assert_codes(service, expected).await;
    }
}

/// A code with one try left.
pub(super) struct LastTry(String);

impl LastTry {
    pub(super) async fn new(service: &Service, user: &User) -> Self {
        let code = service.code_for(user).await;
        service.set_tries(user, TRIES).await;
        Self(code)
    }

    /// Asserts the number of used tries, and that the right code is accepted if one is left.
    pub(super) async fn assert_tries(&self, service: &Service, user: &User, expected: usize) {
        assert_eq!(service.tries(user).await, expected, "tries");
        let again = service.check_code(&user.username, &self.0).await;
        again.is(if expected > TRIES { RATE_LIMIT_EXCEEDED } else { CODE_CORRECT });
    }
}

const CODE_NEEDS: [&str; 4] = [READ_ADDRESS, GET_USER, RESERVE_TRY, CODE_KEY];
const WRONG_CODE_NEEDS: [&str; 5] = [READ_ADDRESS, GET_USER, RESERVE_TRY, CODE_KEY, CHARGE_ADDRESS];

/// The right code, at the last try.
pub(super) struct RightCode(User, LastTry);

impl Scenario for RightCode {
    type Reply = ();

    const NEEDS: &[&str] = &CODE_NEEDS;

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        let code = LastTry::new(service, &user).await;
        Self(user, code)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let Self(user, LastTry(code)) = self;
        available(service.check_code(&user.username, code).await)?.is(CODE_CORRECT);
        Some(())
    }

    async fn check(self, service: &Service, _: Option<()>, struck: &Struck) {
        let kept = !struck.applied(GIVE_BACK_TRY) || struck.lost(RESERVE_TRY) || struck.late(RESERVE_TRY);
        self.1.assert_tries(service, &self.0, TRIES + usize::from(kept)).await;
    }
}

/// A wrong code, at the last try.
pub(super) struct WrongCode(User, LastTry);

impl Scenario for WrongCode {
    type Reply = ();

    const NEEDS: &[&str] = &WRONG_CODE_NEEDS;

    async fn prepare(service: &Service) -> Self {
        let user = service.user().with_password(PASSWORD).create().await;
        let code = LastTry::new(service, &user).await;
        Self(user, code)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        available(service.check_code(&self.0.username, WRONG_CODE).await)?.is(CODE_INCORRECT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let used = reply.is_some() || struck.lost(RESERVE_TRY) || struck.fails(CHARGE_ADDRESS);
        self.1.assert_tries(service, &self.0, TRIES + usize::from(used)).await;
    }
}

/// A reset with a wrong code, at the last try.
pub(super) struct WrongReset(Account, LastTry);

impl Scenario for WrongReset {
    type Reply = ();

    const NEEDS: &[&str] = &WRONG_CODE_NEEDS;

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        let code = LastTry::new(service, &account.user).await;
        Self(account, code)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let username = &self.0.user.username;
        available(service.reset_password(username, WRONG_CODE, NEW_PASSWORD).await)?.is(CODE_INCORRECT);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let used = reply.is_some() || struck.lost(RESERVE_TRY) || struck.fails(CHARGE_ADDRESS);
        self.1.assert_tries(service, &self.0.user, TRIES + usize::from(used)).await;
        self.0.assert_changed(service, false, false, struck).await;
    }
}

/// A reset with the right code, at the last try.
pub(super) struct Reset(Account, LastTry);

impl Scenario for Reset {
    type Reply = ();

    const NEEDS: &[&str] = &[READ_ADDRESS, GET_USER, RESERVE_TRY, CODE_KEY, TRANSACTION];
    const LOOKED_UP: &[&str] = &[TRANSACTION];

    async fn prepare(service: &Service) -> Self {
        let account = Account::new(service).await;
        let code = LastTry::new(service, &account.user).await;
        Self(account, code)
    }

    async fn request(&self, service: &Service) -> Option<()> {
        let Self(account, LastTry(code)) = self;
        let reset = service.reset_password(&account.user.username, code, NEW_PASSWORD).await;
        available(reset)?.is(CHANGED_PASSWORD);
        Some(())
    }

    async fn check(self, service: &Service, reply: Option<()>, struck: &Struck) {
        let Self(account, LastTry(code)) = &self;
        let (user, changed) = (&account.user, reply.is_some() || struck.lost(TRANSACTION));
        let failures = if changed { 0 } else { FAILURES as usize };
        assert_eq!(service.failures(&user.username).await, failures);
        assert_eq!(code_id(service, user).await.is_none(), changed);
        if changed {
            assert_eq!(service.tries(user).await, 0);
            service.check_code(&user.username, code).await.is(NO_CODE_REQUESTED);
        } else {
            let expected = TRIES + usize::from(struck.lost(RESERVE_TRY));
            self.1.assert_tries(service, user, expected).await;
        }
        account.assert_changed(service, changed, false, struck).await;
    }
}

async fn code_id(service: &Service, user: &User) -> Option<String> {
    let item = service.stored_code(user).await?;
    Some(item.get("code_id")?.as_s().unwrap().clone())
}
