use lambda_http::http::{HeaderMap, header};
use lambda_http::{Request, RequestExt};

/// The token of an `Authorization: Bearer …` header (RFC 6750). The colon that the API document writes behind
/// `Bearer` is accepted too.
#[must_use]
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    // Without a scheme, it would be the value itself.
    token_in(value).filter(|token| *token != value)
}

/// The token in the value of an `Authorization` header, with or without `Bearer` before it, for gateways whose clients
/// leave it out. A value of another scheme has none.
#[must_use]
pub fn token_in(value: &str) -> Option<&str> {
    let value = value.trim();
    let is_bearer = |scheme: &str| scheme.trim_end_matches(':').eq_ignore_ascii_case("bearer");
    match value.split_once([' ', '\t']) {
        Some((scheme, token)) => is_bearer(scheme).then(|| token.trim()),
        None => (!value.is_empty() && !is_bearer(value)).then_some(value),
    }
}

/// The token of a request whose clients send it in the query, as `?token=…`: the header's ([`bearer_token`]), or else, if
/// the deployment allows it there (`allowed_in_query`), the last one of the query, because clients append a new token
/// to the old one. An empty one counts as absent.
#[must_use]
pub fn token_of(request: &Request, allowed_in_query: bool) -> Option<String> {
    if let Some(token) = bearer_token(request.headers()) {
        return Some(token.to_owned());
    }
    if !allowed_in_query {
        return None;
    }
    let query = request.query_string_parameters();
    query.all("token")?.last().filter(|token| !token.is_empty()).map(|token| (*token).to_owned())
}

#[cfg(test)]
mod tests {
    use lambda_http::http::HeaderValue;

    use super::*;

    #[test]
    fn the_bearer_token_is_read_with_and_without_the_document_s_colon() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("Bearer: abc", Some("abc")),
            ("bearer   abc ", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Basic abc", None),
            ("abc", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(bearer_token(&headers), token, "{value}");
        }
        assert_eq!(bearer_token(&HeaderMap::new()), None);
    }

    #[test]
    fn a_token_is_found_with_and_without_its_scheme() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bEARER: abc", Some("abc")),
            ("\tBearer \t abc ", Some("abc")),
            ("abc", Some("abc")),
            (" abc ", Some("abc")),
            ("Bearer", None),
            ("Bearer:", None),
            ("Bearer: ", None),
            ("Basic abc", None),
            ("abc Bearer", None),
            (" ", None),
            ("", None),
        ] {
            assert_eq!(token_in(value), token, "{value}");
        }
    }
}
