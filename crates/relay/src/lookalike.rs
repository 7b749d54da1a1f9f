//! Names that a lenient parser confuses with others.

/// Reduces a name to the letters that the most lenient parser compares.
fn letters(name: &str) -> impl Iterator<Item = char> {
    let seen = name.chars().take_while(|c| *c != '\0').filter(|c| !matches!(c, '_' | '-'));
    // Lowercasing a dotted capital I yields an i and a combining dot.
    seen.flat_map(char::to_lowercase).filter(|c| *c != '\u{307}').map(|c| match c {
        'ſ' => 's',
        'ı' => 'i',
        other => other,
    })
}

/// Returns whether a lenient parser would confuse `name` with one of `names`, although it is none
/// of them.
pub(crate) fn is_lookalike(name: &str, names: &[&str]) -> bool {
    !names.contains(&name) && names.iter().any(|known| letters(name).eq(letters(known)))
}
