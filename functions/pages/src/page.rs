//! The pages: their addresses, the parameters in their query, and their HTML.

use askama::Template;
use lambda_http::{Request, RequestExt};
use shared::domain::AllowedOrigins;

use crate::assets::Assets;
use crate::negotiation;
use crate::texts::{Languages, Texts};

/// A page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Page {
    SignIn,
    ForgotPassword,
    ChangePassword,
    Sessions,
}

/// The choices in the query and the headers of a request for a page.
#[derive(Debug)]
pub(crate) struct Visit {
    /// The index of the language.
    language: usize,
    /// True if the query names the language, so that links have to name it too.
    names_language: bool,
    /// The page that sent the user here to sign in.
    next: Option<Page>,
    return_to: ReturnTo,
}

/// The origin of the application that opened the page and gets the user's tokens, by `return_origin`.
#[derive(Debug, Eq, PartialEq)]
enum ReturnTo {
    /// The query names none.
    Nowhere,
    /// An origin that may get them.
    Origin(String),
    /// The query names an origin that may not get them.
    Refused,
}

/// The HTML of a page.
#[derive(Template)]
#[template(path = "page.html")]
pub(crate) struct Document<'a> {
    pub(crate) page: Page,
    pub(crate) product: &'a str,
    /// The minimum number of characters of a new password.
    pub(crate) min_chars: u32,
    /// The maximum.
    pub(crate) max_chars: usize,
    pub(crate) prevents_user_existence_errors: bool,
    pub(crate) languages: &'a Languages,
    pub(crate) assets: &'a Assets,
    pub(crate) visit: &'a Visit,
}

impl Page {
    const ALL: [Self; 4] = [Self::SignIn, Self::ForgotPassword, Self::ChangePassword, Self::Sessions];

    /// The page of a route such as `GET /`.
    pub(crate) fn of_route(route_key: &str) -> Option<Self> {
        route_key.strip_prefix("GET ").and_then(Self::of_path)
    }

    fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|page| page.path() == path)
    }

    fn path(self) -> &'static str {
        match self {
            Self::SignIn => "/",
            Self::ForgotPassword => "/forgot-password",
            Self::ChangePassword => "/change-password",
            Self::Sessions => "/sessions",
        }
    }

    /// The name of the page in the script, and the beginning of the keys of its texts.
    fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::ForgotPassword => "forgot_password",
            Self::ChangePassword => "change_password",
            Self::Sessions => "sessions",
        }
    }
}

impl Visit {
    pub(crate) fn parse(request: &Request, languages: &Languages, return_origins: &AllowedOrigins) -> Self {
        let query = request.query_string_parameters_ref();
        // API Gateway decodes the query.
        let parameter = |name| query.and_then(|query| query.first(name)).filter(|value| !value.is_empty());
        let codes = languages.codes();
        let named = parameter("lang");
        let language = match named {
            Some(tag) => negotiation::language(tag, &codes),
            None => negotiation::preferred_language(request.headers(), &codes),
        };
        let next = parameter("next").and_then(Page::of_path);
        let return_to = match parameter("return_origin") {
            None => ReturnTo::Nowhere,
            Some(origin) if return_origins.allows(origin) => ReturnTo::Origin(origin.to_owned()),
            Some(_) => ReturnTo::Refused,
        };
        Self {
            language: language.unwrap_or_else(|| languages.default_index()),
            names_language: named.is_some(),
            next: next.filter(|page| [Page::ChangePassword, Page::Sessions].contains(page)),
            return_to,
        }
    }

    /// Returns whether an application may get the user's tokens from this page, which then has to keep its opener.
    pub(crate) fn returns(&self) -> bool {
        matches!(self.return_to, ReturnTo::Origin(_))
    }

    /// The code of the language.
    pub(crate) fn language<'a>(&self, languages: &'a Languages) -> &'a str {
        languages.get(self.language).map_or("", |texts| &texts.language)
    }
}

impl Document<'_> {
    pub(crate) fn html(&self) -> askama::Result<String> {
        self.render()
    }

    fn texts(&self) -> askama::Result<&Texts> {
        self.languages.get(self.visit.language).ok_or_else(|| askama::Error::custom("no such language"))
    }

    fn text(&self, key: &str) -> askama::Result<&str> {
        self.texts()?.page(key).ok_or_else(|| askama::Error::custom(format!("no text {key}")))
    }

    /// The title of the page.
    fn title(&self) -> askama::Result<&str> {
        self.text(&format!("{}_title", self.page.name()))
    }

    /// The address of a page, with the parameters of this one that it needs.
    fn link(&self, page: Page) -> String {
        let named = self.visit.names_language.then(|| self.visit.language(self.languages));
        self.address(page, named, self.visit.next)
    }

    /// The address of the page that sent the user here to sign in.
    fn next(&self) -> Option<String> {
        self.visit.next.map(|next| self.link(next))
    }

    /// The address of the page to sign in, which leads back to this one.
    fn sign_in(&self) -> String {
        let named = self.visit.names_language.then(|| self.visit.language(self.languages));
        let here = [Page::ChangePassword, Page::Sessions].contains(&self.page).then_some(self.page);
        self.address(Page::SignIn, named, here.or(self.visit.next))
    }

    /// The address of this page in another language.
    fn in_language(&self, language: &str) -> String {
        self.address(self.page, Some(language), self.visit.next)
    }

    fn address(&self, page: Page, language: Option<&str>, next: Option<Page>) -> String {
        // Only pages for people who are not signed in send them on.
        let next = next.filter(|_| [Page::SignIn, Page::ForgotPassword].contains(&page));
        let origin = self.return_origin().map(|origin| origin.replace('[', "%5B").replace(']', "%5D"));
        let parameters = [
            language.map(|language| format!("lang={language}")),
            next.map(|next| format!("next={}", next.path())),
            origin.map(|origin| format!("return_origin={origin}")),
        ];
        let query: Vec<String> = parameters.into_iter().flatten().collect();
        let separator = if query.is_empty() { "" } else { "?" };
        format!("{}{separator}{}", page.path(), query.join("&"))
    }

    fn return_origin(&self) -> Option<&str> {
        match &self.visit.return_to {
            ReturnTo::Origin(origin) => Some(origin),
            ReturnTo::Nowhere | ReturnTo::Refused => None,
        }
    }

    fn return_is_refused(&self) -> bool {
        self.visit.return_to == ReturnTo::Refused
    }
}
