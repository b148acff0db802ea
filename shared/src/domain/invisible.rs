use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Returns whether a character shows nothing, or changes how the characters around it are shown: control and format
/// characters (bidirectional controls and zero-width ones among them), line and paragraph separators, private-use
/// and unassigned code points (Unicode general categories Cc, Cf, Zl, Zp, Co and Cn), and the blank braille pattern
/// U+2800. Ordinary spaces are not among them.
#[must_use]
pub fn is_invisible(character: char) -> bool {
    character == '\u{2800}'
        || matches!(
            character.general_category(),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
                | GeneralCategory::PrivateUse
                | GeneralCategory::Unassigned
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_control_and_unassigned_characters_are_invisible() {
        for character in [
            '\0',
            '\t',
            '\n',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2800}',
            '\u{e000}',
            '\u{feff}',
            '\u{e0001}',
            '\u{e0fff}',
        ] {
            assert!(is_invisible(character), "{character:?}");
        }
    }

    #[test]
    fn letters_marks_spaces_and_symbols_are_visible() {
        for character in ['a', 'ß', '字', '\u{301}', ' ', '\u{a0}', '\u{3000}', '-', '😀', '\u{fe0f}'] {
            assert!(!is_invisible(character), "{character:?}");
        }
    }
}
