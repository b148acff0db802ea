//! `pages`: the pages on which people sign in, reset and change their password, and see their sessions, with the script,
//! the style sheet and the logo of these pages. All of it is compiled in, and the pages use the API's own routes.

mod assets;
mod brand;
mod negotiation;
mod page;
mod texts;

use std::net::IpAddr;
use std::sync::OnceLock;

use aws_types::SdkConfig;
use lambda_http::http::{HeaderName, HeaderValue, StatusCode, header};
use lambda_http::{Body, Request, RequestExt, Response};
use shared::domain::{AllowedOrigins, PasswordPolicy};
use shared::endpoint::{Endpoint, Envelope, Error, Success, response, route_key};
use shared::failure::Failure;
use shared::settings::{ConfigError, Settings};

use crate::assets::{Assets, Resource};
use crate::brand::{BrandColor, Logo};
use crate::page::{Document, Page, Visit};
use crate::texts::Languages;

/// The endpoint of `pages`.
#[derive(Debug)]
pub struct Pages {
    product: String,
    min_chars: u32,
    prevents_user_existence_errors: bool,
    /// The origins whose pages may get the tokens of a user who signed in here.
    return_origins: AllowedOrigins,
    color: BrandColor,
    logo: Logo,
    /// Made by the first request, so that a start costs no more than those of other functions.
    content: OnceLock<Content>,
}

/// The texts, and the files that pages load.
#[derive(Debug)]
struct Content {
    languages: Languages,
    assets: Assets,
}

/// The policy of pages: everything comes from their own origin, and nothing is inline.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// The policy of assets, for the case that a browser shows one as a page: a logo could hold a script.
const ASSET_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

impl Endpoint for Pages {
    const NAME: &'static str = "pages";

    const ENVELOPE: Envelope = Envelope::Gateway;

    fn new(settings: &Settings, _: &SdkConfig) -> Result<Self, ConfigError> {
        let product = settings.product_name()?;
        let min_chars = settings.password_min_length()?;
        Ok(Self {
            min_chars,
            prevents_user_existence_errors: settings.prevents_user_existence_errors()?,
            return_origins: settings.return_origins()?,
            color: BrandColor::from_settings(settings)?,
            logo: Logo::from_settings(settings)?,
            content: OnceLock::new(),
            product,
        })
    }

    async fn connect(&self) {}

    async fn prefetch(&self) {}

    async fn handle(&self, request: &Request, _: IpAddr) -> Result<Success, Error> {
        match route_key(request).and_then(Page::of_route) {
            Some(page) => self.page(request, page),
            None => self.asset(request),
        }
    }
}

impl Pages {
    fn content(&self) -> Result<&Content, Failure> {
        if let Some(content) = self.content.get() {
            return Ok(content);
        }
        let languages = Languages::new(&self.product, self.min_chars)
            .map_err(|error| Failure::Defect(format!("the texts cannot be read: {error}")))?;
        let assets = Assets::new(self.color, &self.logo);
        Ok(self.content.get_or_init(|| Content { languages, assets }))
    }

    fn page(&self, request: &Request, page: Page) -> Result<Success, Error> {
        let Content { languages, assets } = self.content()?;
        let visit = Visit::parse(request, languages, &self.return_origins);
        let document = Document {
            page,
            product: &self.product,
            min_chars: self.min_chars,
            max_chars: PasswordPolicy::MAX_CHARS,
            prevents_user_existence_errors: self.prevents_user_existence_errors,
            languages,
            assets,
            visit: &visit,
        };
        let html = document.html().map_err(|error| Failure::Defect(error.to_string()))?;
        let resource = Resource::new("text/html; charset=utf-8", html);
        let etag = format!("W/\"{}\"", resource.hash());
        let known = request.headers().get_all(header::IF_NONE_MATCH).iter();
        let is_known = known.filter_map(|tags| tags.to_str().ok()).any(|tags| tags.contains(&etag));
        let mut answer = if is_known {
            let mut answer =
                response(StatusCode::NOT_MODIFIED, resource.content_type, "no-cache", Body::Empty);
            answer.headers_mut().remove(header::CONTENT_TYPE);
            answer
        } else {
            encoded(&resource, request, "no-cache")
        };
        let opener = if visit.returns() { "unsafe-none" } else { "same-origin" };
        set(
            &mut answer,
            &[
                (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
                (header::REFERRER_POLICY, "no-referrer"),
                (header::X_FRAME_OPTIONS, "DENY"),
                (HeaderName::from_static("cross-origin-opener-policy"), opener),
                (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
                (
                    HeaderName::from_static("permissions-policy"),
                    "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
                ),
                (header::VARY, "Accept-Encoding, Accept-Language"),
            ],
        );
        for (name, value) in [(header::CONTENT_LANGUAGE, visit.language(languages)), (header::ETAG, &etag)] {
            let value = HeaderValue::from_str(value).map_err(|error| Failure::Defect(error.to_string()))?;
            answer.headers_mut().insert(name, value);
        }
        Ok(Success::of("page_read", answer))
    }

    fn asset(&self, request: &Request) -> Result<Success, Error> {
        let assets = &self.content()?.assets;
        let parameters = request.path_parameters_ref();
        let name = parameters.and_then(|parameters| parameters.first("name"));
        let asset = name.and_then(|name| assets.find(name)).ok_or(Error::NotFound)?;
        let mut answer = encoded(&asset.resource, request, IMMUTABLE);
        set(
            &mut answer,
            &[
                (header::CONTENT_SECURITY_POLICY, ASSET_POLICY),
                (header::REFERRER_POLICY, "no-referrer"),
                (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
                (header::VARY, "Accept-Encoding"),
            ],
        );
        Ok(Success::of("asset_read", answer))
    }
}

/// The resource in the encoding that the client accepts.
fn encoded(resource: &Resource, request: &Request, cache_control: &'static str) -> Response<Body> {
    let gzip = negotiation::accepts_gzip(request.headers()).then(|| resource.gzip()).flatten();
    let mut answer = match gzip {
        Some(gzip) => response(StatusCode::OK, resource.content_type, cache_control, gzip),
        None => response(StatusCode::OK, resource.content_type, cache_control, resource.text()),
    };
    if gzip.is_some() {
        set(&mut answer, &[(header::CONTENT_ENCODING, "gzip")]);
    }
    answer
}

fn set(response: &mut Response<Body>, headers: &[(HeaderName, &'static str)]) {
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}
