//! The operator's own look: a colour and a logo.

use shared::settings::{ConfigError, Settings};

/// The colour of buttons and links.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BrandColor([u8; 3]);

/// The logo, which is the icon of the pages too: an SVG.
#[derive(Debug)]
pub(crate) struct Logo(String);

const WHITE: BrandColor = BrandColor([255; 3]);
const BLACK: BrandColor = BrandColor([0; 3]);
/// The lightest and the darkest background of text in `style.css`, where the contrast of a text is smallest: the page in
/// the light scheme and the card in the dark one.
const LIGHT_BACKGROUND: BrandColor = BrandColor([0xf4, 0xf5, 0xf8]);
const DARK_BACKGROUND: BrandColor = BrandColor([0x1b, 0x1d, 0x24]);
/// The contrast that text needs (WCAG 2.2, success criterion 1.4.3).
const TEXT_CONTRAST: f64 = 4.5;
/// The most characters of a logo: the variables of a function have 4 KB together.
const MAX_LOGO_CHARS: usize = 1000;

impl BrandColor {
    const DEFAULT: Self = Self([0x3f, 0x51, 0xd4]);

    /// The colour by `BRAND_COLOR`.
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let Some(text) = settings.optional("BRAND_COLOR") else { return Ok(Self::DEFAULT) };
        Self::parse(&text).ok_or_else(|| ConfigError::new("BRAND_COLOR", "must be a colour such as #3f51d4"))
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let [_, red, green, blue] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
        Some(Self([red, green, blue]))
    }

    fn css(self) -> String {
        let [red, green, blue] = self.0;
        format!("#{red:02x}{green:02x}{blue:02x}")
    }

    /// The variables of the style sheet: the colour itself, that of text on it, and the next one to it that can be read
    /// as text on the backgrounds of each scheme.
    pub(crate) fn style(self) -> String {
        let (brand, on_brand) = (self.css(), self.text_on().css());
        let light = self.readable_on(LIGHT_BACKGROUND, BLACK).css();
        let dark = self.readable_on(DARK_BACKGROUND, WHITE).css();
        format!(
            ":root{{--brand:{brand};--on-brand:{on_brand};--brand-text:{light}}}\n\
             @media(prefers-color-scheme:dark){{:root{{--brand-text:{dark}}}}}\n"
        )
    }

    /// White, or black where white cannot be read.
    fn text_on(self) -> Self {
        if self.contrast(WHITE) >= TEXT_CONTRAST { WHITE } else { BLACK }
    }

    /// The colour itself, or its mixture with the least of `other` that can be read on `background`.
    fn readable_on(self, background: Self, other: Self) -> Self {
        let mixtures = (0..=u8::MAX).map(|share| self.mixed_with(other, share));
        mixtures.into_iter().find(|mixture| mixture.contrast(background) >= TEXT_CONTRAST).unwrap_or(other)
    }

    /// A mixture with `share` 255ths of `other`.
    fn mixed_with(self, other: Self, share: u8) -> Self {
        let mix = |own: u8, others: u8| {
            let sum = u16::from(own) * u16::from(u8::MAX - share) + u16::from(others) * u16::from(share);
            u8::try_from(sum / u16::from(u8::MAX)).unwrap_or(u8::MAX)
        };
        let ([red, green, blue], [reds, greens, blues]) = (self.0, other.0);
        Self([mix(red, reds), mix(green, greens), mix(blue, blues)])
    }

    /// The contrast ratio of two colours (WCAG 2.2), from 1 to 21.
    fn contrast(self, other: Self) -> f64 {
        let (one, two) = (self.luminance(), other.luminance());
        (one.max(two) + 0.05) / (one.min(two) + 0.05)
    }

    /// The relative luminance (WCAG 2.2), from 0 for black to 1 for white.
    fn luminance(self) -> f64 {
        let [red, green, blue] = self.0.map(|channel| {
            let channel = f64::from(channel) / 255.0;
            if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }
}

impl Logo {
    /// The logo by `BRAND_LOGO`.
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let Some(svg) = settings.optional("BRAND_LOGO") else {
            return Ok(Self(include_str!("../assets/logo.svg").to_owned()));
        };
        let is_svg = svg.starts_with("<svg ") && svg.ends_with("</svg>");
        // Browsers show no image without it.
        let has_namespace = svg.contains("xmlns=\"http://www.w3.org/2000/svg\"");
        if is_svg && has_namespace && svg.chars().count() <= MAX_LOGO_CHARS {
            Ok(Self(svg))
        } else {
            let problem = format!("must be an SVG with its xmlns, of at most {MAX_LOGO_CHARS} characters");
            Err(ConfigError::new("BRAND_LOGO", &problem))
        }
    }

    /// The SVG, with the colour in the place of `{brand}` and that of text on it in the place of `{on-brand}`.
    pub(crate) fn svg(&self, color: BrandColor) -> String {
        self.0.replace("{brand}", &color.css()).replace("{on-brand}", &color.text_on().css())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_colour_has_six_hexadecimal_digits() {
        assert_eq!(BrandColor::parse("#3f51D4"), Some(BrandColor([0x3f, 0x51, 0xd4])));
        for text in ["3f51d4", "#3f51d", "#3f51d4a", "#3f51dg", "#+f51d4", "red", "#3f5;}", "", "#äöü"] {
            assert_eq!(BrandColor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn contrasts_are_those_of_the_standard() {
        assert!((BLACK.contrast(WHITE) - 21.0).abs() < 1e-9);
        let grey = BrandColor([0x76; 3]);
        assert!((grey.contrast(WHITE) - 4.54).abs() < 0.005, "{}", grey.contrast(WHITE));
    }

    #[test]
    fn the_backgrounds_are_those_of_the_style_sheet() {
        let style = include_str!("../assets/style.css");
        assert!(style.contains(&format!("--page: {};", LIGHT_BACKGROUND.css())));
        assert!(style.contains(&format!("--card: {};", DARK_BACKGROUND.css())));
    }

    proptest! {
        #[test]
        fn every_colour_can_be_read_in_both_schemes(channels: [u8; 3]) {
            let color = BrandColor(channels);
            prop_assert!(color.contrast(color.text_on()) >= TEXT_CONTRAST);
            for (background, other) in [(LIGHT_BACKGROUND, BLACK), (DARK_BACKGROUND, WHITE)] {
                prop_assert!(color.readable_on(background, other).contrast(background) >= TEXT_CONTRAST);
            }
        }
    }
}
