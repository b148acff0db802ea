//! The edge: the address of the client counts if a request has the secret of the edge, and only then.

use serde_json::json;
use support::{Fault, Plan};

use super::tokens::key_lookups::look_ups;
use crate::answers::{
    BYPASSED, EDGE_BYPASSED, RATE_LIMIT_EXCEEDED, SERVICE_UNAVAILABLE, USERNAME_OR_PASSWORD_INCORRECT,
};
use crate::endpoints::routes::PATHS;
use crate::helpers::{
    ApiResponse, CHANGE_PASSWORD, CHANGE_PASSWORD_URL, MINUTE, ORIGIN_SECRET, PASSWORD, SIGNIN, Service,
    User, VIEWER_ADDRESS, WRONG_PASSWORD, unknown_username,
};

const OPTIONAL: (&str, &str) = ("EDGE", "optional");
const REQUIRED: (&str, &str) = ("EDGE", "required");
const TWO_FAILURES: (&str, &str) = ("SIGNIN_FAILURES_PER_IP", "2");
/// A secret that the edge never had.
const WRONG: &str = "0123456789012345678901234567890123456789012345678901234567890123";

/// The secret of the edge.
async fn secret(service: &Service) -> String {
    service.secret(&service.origin_secret_id).await.value
}

/// Signs an unknown user in, with these headers.
async fn fail(service: &Service, headers: &[(&str, &str)]) -> ApiResponse {
    let body = json!({"username": unknown_username(), "password": WRONG_PASSWORD});
    let request = service.request("POST", SIGNIN).json(&body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    ApiResponse::to(request).await
}

/// The networks from which the user's right password came.
async fn networks(service: &Service, user: &User) -> Vec<String> {
    let stored = service.stored_user(user).await;
    let networks = stored["networks"].as_l().unwrap().iter();
    networks.map(|network| network.as_s().unwrap().clone()).collect()
}

#[tokio::test]
async fn requests_through_the_edge_count_for_the_address_of_their_client() {
    let service = Service::with_settings([OPTIONAL, TWO_FAILURES]).await;
    let secret = secret(&service).await;
    let through =
        async |viewer: &str| fail(&service, &[(ORIGIN_SECRET, &secret), (VIEWER_ADDRESS, viewer)]).await;
    // The last two are one network, of which the port is no part.
    for viewers in [
        ["198.51.100.1:1", "198.51.100.1:65535", "198.51.100.1:443"],
        ["2001:db8:1:2::1:443", "2001:db8:1:2:3:4:5:6:46532", "2001:db8:1:2:::0"],
    ] {
        for viewer in &viewers[..2] {
            through(viewer).await.is(USERNAME_OR_PASSWORD_INCORRECT);
        }
        through(viewers[2]).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    }
    for other in ["198.51.100.2:1", "2001:db8:1:3::1:443", "::ffff:198.51.100.3:443"] {
        through(other).await.is(USERNAME_OR_PASSWORD_INCORRECT);
    }
    // Its own address is another one.
    fail(&service, &[]).await.is(USERNAME_OR_PASSWORD_INCORRECT);
}

#[tokio::test]
async fn a_client_without_the_secret_cannot_choose_its_address() {
    for settings in [[OPTIONAL, TWO_FAILURES], [("EDGE", "off"), TWO_FAILURES]] {
        let service = Service::with_settings(settings).await;
        let forged = |last: u8| format!("198.51.100.{last}");
        for (last, origin_secret) in [(1, None), (2, Some(WRONG)), (3, Some("")), (4, None)] {
            let (address, viewer) = (forged(last), format!("{}:443", forged(last)));
            let mut headers = vec![(VIEWER_ADDRESS, &*viewer), ("x-forwarded-for", &*address)];
            headers.extend(origin_secret.map(|value| (ORIGIN_SECRET, value)));
            let answer = fail(&service, &headers).await;
            if last > 2 {
                answer.is_refused_for(RATE_LIMIT_EXCEEDED);
            } else {
                answer.is(USERNAME_OR_PASSWORD_INCORRECT);
            }
        }
    }
}

#[tokio::test]
async fn networks_behind_the_edge_are_those_of_the_clients() {
    let service = Service::with_settings([REQUIRED]).await;
    let owner = service.through_edge(&secret(&service).await);
    let user = owner.user().create().await;
    owner.token_of(&user).await;
    let address = owner.address.unwrap().to_string();
    let (network, _) = address.rsplit_once('.').unwrap();
    assert_eq!(networks(&owner, &user).await, [format!("{network}.0/24")]);

    // A stranger behind the same edge does not lock the owner out.
    let stranger = owner.seen_from_elsewhere();
    stranger.set_failures(&user.username, 20, MINUTE).await;
    stranger.signin(&user.username, PASSWORD).await.is_refused_for(RATE_LIMIT_EXCEEDED);
    owner.token_of(&user).await;
}

#[tokio::test]
async fn a_required_edge_cannot_be_bypassed() {
    let service = Service::with_settings([REQUIRED]).await;
    let user = service.user().create().await;
    let secret = secret(&service).await;
    let faults = service.stack.as_ref().unwrap().faults();
    faults.begin(None);
    for (path, methods) in PATHS {
        for method in methods {
            for body in ["{}".to_owned(), "{".to_owned(), "x".repeat(17 * 1024)] {
                let request = service.request(method, path).header("origin", "https://evil.example");
                let answer =
                    ApiResponse::to(request.header(VIEWER_ADDRESS, "198.51.100.1:1").body(body)).await;
                answer.is(if path == CHANGE_PASSWORD { BYPASSED } else { EDGE_BYPASSED });
            }
        }
    }
    assert_eq!(faults.end().await, [""; 0], "operations of refused requests");
    service.signin(&user.username, PASSWORD).await.is(EDGE_BYPASSED);
    let twice = format!("{secret},{secret}");
    for wrong in [WRONG, "", &secret[1..], &secret.to_lowercase(), &twice] {
        let answer = fail(&service, &[(ORIGIN_SECRET, wrong), (VIEWER_ADDRESS, "198.51.100.1:1")]).await;
        answer.is(EDGE_BYPASSED);
    }
    service.through_edge(&secret).token_of(&user).await;
    // Public paths stay public.
    assert_eq!(ApiResponse::to(service.request("GET", CHANGE_PASSWORD_URL)).await.status, 302);
}

#[tokio::test]
async fn the_secret_before_the_last_rotation_is_still_accepted() {
    let service = Service::with_settings([REQUIRED]).await;
    let user = service.user().create().await;
    let id = service.origin_secret_id.clone();
    let mut secrets = vec![secret(&service).await];
    for _ in 0..2 {
        service.through_edge(&secrets[0]).token_of(&user).await;
        service.rotate(&id).await;
        secrets.insert(0, secret(&service).await);
        // The new one first, and the old one from memory and after a look-up.
        for accepted in [&secrets[0], &secrets[1], &secrets[0]] {
            service.through_edge(accepted).token_of(&user).await;
        }
    }
    service.through_edge(&secrets[2]).signin(&user.username, PASSWORD).await.is(EDGE_BYPASSED);
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_refuses_every_request_through_the_edge() {
    for edge in [OPTIONAL, REQUIRED] {
        let service = Service::with_settings([edge, ("SECRETS_CACHE_SECONDS", "0")]).await;
        let user = service.user().create().await;
        let through = service.through_edge(&secret(&service).await);
        let faults = service.stack.as_ref().unwrap().faults();
        let operation = "GetSecretValue origin-secret".to_owned();
        faults.begin(Some(Plan { operation, fault: Fault::Unavailable, attempts: Plan::EVERY_ATTEMPT }));
        through.signin(&user.username, PASSWORD).await.is_refused_for(SERVICE_UNAVAILABLE);
        let operations = faults.end().await;
        assert_eq!(operations, ["GetSecretValue origin-secret"], "nothing is counted");
        through.token_of(&user).await;
    }
}

#[tokio::test]
async fn an_edge_that_sends_no_address_of_the_client_is_a_defect() {
    let service = Service::with_settings([OPTIONAL]).await;
    let secret = secret(&service).await;
    for viewer in [None, Some("198.51.100.1"), Some("198.51.100.1:80,198.51.100.2:80"), Some("unknown:80")] {
        let mut headers = vec![(ORIGIN_SECRET, &*secret)];
        headers.extend(viewer.map(|viewer| (VIEWER_ADDRESS, viewer)));
        assert_eq!(fail(&service, &headers).await.status, 500, "{viewer:?}");
    }
}

#[tokio::test]
async fn made_up_secrets_cost_one_look_up_a_second() {
    let service = Service::with_settings([OPTIONAL, ("SIGNIN_FAILURES_PER_IP", "0")]).await;
    fail(&service, &[(ORIGIN_SECRET, WRONG)]).await;
    let (calls, most) = look_ups(&service, async {
        for number in 0..20 {
            fail(&service, &[(ORIGIN_SECRET, &format!("{WRONG}{number}"))]).await;
        }
    })
    .await;
    assert!(calls as u64 <= most, "{calls} of {most}");
}
