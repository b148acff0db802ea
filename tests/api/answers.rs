//! The documented responses: status and exact body.

pub(crate) type Documented = (u16, &'static str);

pub(crate) const USERNAME_OR_PASSWORD_INCORRECT: Documented =
    (400, r#"{"msg":"Username or password is wrong","error_code":"username_or_password_incorrect"}"#);
pub(crate) const NOT_ACTIVATED: Documented =
    (400, r#"{"msg":"Account is not activated","error_code":"not_activated"}"#);
pub(crate) const CHANGE_PASSWORD: Documented =
    (400, r#"{"msg":"You have to change your password","error_code":"change_password"}"#);
pub(crate) const NO_PASSWORD_CHANGE_NEEDED: Documented = (
    400,
    r#"{"msg":"User does not need to change his password","error_code":"no_password_change_needed_for_user"}"#,
);

pub(crate) const SENT: Documented = (200, r#"{"msg":"Sent"}"#);
pub(crate) const CODE_CORRECT: Documented = (200, r#"{"msg":"Code correct","success_code":"code_correct"}"#);
pub(crate) const CHANGED_PASSWORD: Documented = (200, r#"{"msg":"Changed password successful"}"#);
pub(crate) const UNKNOWN_USERNAME: Documented =
    (404, r#"{"msg":"Unknown username","error_code":"unknown_username"}"#);
pub(crate) const NO_EMAIL_ADDRESSES: Documented =
    (400, r#"{"msg":"There are no email addresses for this account","error_code":"no_email_addresses"}"#);
pub(crate) const CODE_INCORRECT: Documented =
    (400, r#"{"msg":"The code is incorrect","error_code":"code_incorrect"}"#);
pub(crate) const NO_CODE_REQUESTED: Documented =
    (400, r#"{"msg":"There was no code for a password reset requested"}"#);

pub(crate) const SESSION_TOKEN_INCORRECT: Documented =
    (400, r#"{"msg":"Session token is incorrect","error_code":"session_token_incorrect"}"#);
pub(crate) const NO_SESSIONS: Documented = (200, r#"{"msg":"List of all sessions","sessions":[]}"#);
pub(crate) const SESSION_DELETED: Documented = (200, r#"{"msg":"Successfully deleted session"}"#);
pub(crate) const SESSION_NOT_FOUND: Documented =
    (404, r#"{"msg":"Session not found","error_code":"session_token_not_found"}"#);
pub(crate) const LOGGED_OUT: Documented = (200, r#"{"msg":"Successfully logged out and deleted session"}"#);
pub(crate) const NO_SESSION_TO_LOG_OUT: Documented =
    (404, r#"{"msg":"Session token is incorrect","error_code":"session_token_incorrect"}"#);

pub(crate) const PASSWORD_CORRECT: Documented = (200, r#"{"msg":"Password correct"}"#);
pub(crate) const PASSWORD_INCORRECT: Documented =
    (400, r#"{"msg":"Password incorrect","error_code":"password_incorrect"}"#);
pub(crate) const PASSWORD_CHANGED: Documented = (200, r#"{"msg":"Password changed"}"#);

pub(crate) const TOKEN_NOT_PROVIDED: Documented =
    (401, r#"{"msg":"Token not provided.","error_code":"token_not_provided"}"#);
pub(crate) const TOKEN_EXPIRED: Documented =
    (401, r#"{"msg":"Provided token is expired.","error_code":"token_expired"}"#);
pub(crate) const TOKEN_INCORRECT: Documented =
    (401, r#"{"msg":"Your token is incorrect!","error_code":"token_incorrect"}"#);

pub(crate) const EDGE_BYPASSED: Documented = (403, r#"{"msg":"Forbidden","error_code":"edge_bypassed"}"#);
/// The same of `change_password`.
pub(crate) const BYPASSED: Documented = (403, r#"{"success":false,"code":403,"message":"Forbidden"}"#);
pub(crate) const ORIGIN_NOT_ALLOWED: Documented =
    (403, r#"{"msg":"Origin not allowed","error_code":"origin_not_allowed"}"#);
/// The same of `change_password`.
pub(crate) const FOREIGN_ORIGIN: Documented =
    (403, r#"{"success":false,"code":403,"message":"Origin not allowed"}"#);

pub(crate) const RATE_LIMIT_EXCEEDED: Documented =
    (400, r#"{"msg":"Rate limit exceeded","error_code":"rate_limit_exceeded"}"#);
pub(crate) const MALFORMED_JSON: Documented =
    (400, r#"{"msg":"The request body is not valid JSON","error_code":"malformed_json"}"#);

pub(crate) const SERVICE_UNAVAILABLE: Documented =
    (503, r#"{"msg":"Service unavailable, try again later","error_code":"service_unavailable"}"#);

pub(crate) const NEW_PASSWORD_SET: Documented =
    (200, r#"{"success":true,"code":100,"message":"New password is set for user."}"#);
pub(crate) const UNAUTHORIZED: Documented = (401, r#"{"success":false,"code":401,"message":"Unauthorized"}"#);
pub(crate) const CHECK_DATA: Documented =
    (400, r#"{"success":false,"code":400,"message":"Please, check data you send and try again"}"#);
pub(crate) const TOO_MANY_ATTEMPTS: Documented =
    (429, r#"{"success":false,"code":429,"message":"Too many attempts, try again later"}"#);

/// The validation errors of `change_password`: codes, parameters and messages.
const CHANGE_PASSWORD_ERRORS: [(usize, &str, &str); 8] = [
    (1, "old_password", "Please, provide old password. This cannot be empty."),
    (2, "new_password", "You must provide new password."),
    (3, "new_password_check", "You must provide new password check."),
    (4, "old_password", "Password is incorrect. Please provide you current password"),
    (5, "new_password_check", "Both “new password” and “new password check” values must be equal"),
    (6, "new_password", "New password must be between 8 and 256 characters long"),
    (7, "new_password", "New password is too common"),
    (8, "new_password", "New password must differ from the old one"),
];

/// The body with which `change_password` answers 422 when exactly the errors of `codes` apply.
pub(crate) fn change_password_errors(codes: &[usize]) -> String {
    let errors: Vec<String> = codes
        .iter()
        .map(|&code| {
            let (_, param, message) =
                CHANGE_PASSWORD_ERRORS.iter().find(|(known, ..)| *known == code).unwrap();
            format!(r#"{{"code":{code},"message":"{message}","param":"{param}"}}"#)
        })
        .collect();
    format!(
        r#"{{"success":false,"code":422,"message":"There are validation errors found.","errors":[{}]}}"#,
        errors.join(",")
    )
}

/// The body of a 422 under /api/auth for the failing fields, each with its one message, in this order.
pub(crate) fn validation_failed(fields: &[(&str, &str)]) -> String {
    let errors: Vec<String> =
        fields.iter().map(|(field, message)| format!(r#""{field}":["{message}"]"#)).collect();
    format!(
        r#"{{"msg":"The given data was invalid","error_code":"validation_failed","errors":{{{}}}}}"#,
        errors.join(",")
    )
}
