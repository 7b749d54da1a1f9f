//! Names that a lenient reader takes for others.

/// The letters that the most lenient reader goes by.
fn letters(name: &str) -> impl Iterator<Item = char> {
    let seen = name.chars().take_while(|c| *c != '\0').filter(|c| !matches!(c, '_' | '-'));
    // A capital I with a dot becomes an i and a dot of its own.
    seen.flat_map(char::to_lowercase).filter(|c| *c != '\u{307}').map(|c| match c {
        'ſ' => 's',
        'ı' => 'i',
        other => other,
    })
}

/// Whether a lenient reader would take `name` for one of `names`, though it is none of them.
pub(crate) fn is_lookalike(name: &str, names: &[&str]) -> bool {
    !names.contains(&name) && names.iter().any(|known| letters(name).eq(letters(known)))
}
