//! The `Authorization` header (RFC 6750 §2.1, RFC 9110 §11.6.2).

use http::HeaderMap;
use http::header::AUTHORIZATION;
use trustrelay_token::{MalformedToken, Token};

/// Why an `Authorization` header names no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAuthorization {
    /// There is more than one.
    #[error("there is more than one Authorization header; send one")]
    Several,
    /// Another scheme than `Bearer`.
    #[error("the Authorization header must be `Bearer tr_pat_…`")]
    Scheme,
    /// Not a token.
    #[error(transparent)]
    Malformed(#[from] MalformedToken),
}

/// Reads the token of the `Authorization` header, which stays where it is. Returns `None` if there
/// is no such header.
///
/// The scheme's case does not matter (RFC 9110 §11.1); one or more spaces follow it.
pub fn bearer(headers: &HeaderMap) -> Result<Option<Token>, BadAuthorization> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(BadAuthorization::Several);
    }
    let value = value.as_bytes();
    let Some((scheme, rest)) = value.split_at_checked(6) else {
        return Err(BadAuthorization::Scheme);
    };
    if !scheme.eq_ignore_ascii_case(b"bearer") || rest.first() != Some(&b' ') {
        return Err(BadAuthorization::Scheme);
    }
    Ok(Some(Token::from_bytes(rest.trim_ascii_start())?))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Result<Option<Token>, BadAuthorization> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).expect("a header value"));
        }
        bearer(&headers)
    }

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        let token = Token::generate().expect("random");
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let found = read(&[&format!("{scheme} {}", token.expose())]).expect("good").expect("there");
            assert_eq!(found.expose(), token.expose());
        }
        assert!(read(&[]).expect("good").is_none());
    }

    #[test]
    fn what_is_not_one_bearer_token_is_refused_and_told_apart() {
        let token = Token::generate().expect("random");
        let good = format!("Bearer {}", token.expose());
        for (values, refused) in [
            (vec![good.as_str(), good.as_str()], BadAuthorization::Several),
            (vec!["Basic YTpi"], BadAuthorization::Scheme),
            (vec!["Bearer"], BadAuthorization::Scheme),
            (vec!["Bearertr_pat_x"], BadAuthorization::Scheme),
            (vec![""], BadAuthorization::Scheme),
            (vec![token.expose()], BadAuthorization::Scheme),
            (vec!["Bearer "], BadAuthorization::Malformed(MalformedToken::Prefix)),
            (vec!["Bearer a, Bearer b"], BadAuthorization::Malformed(MalformedToken::Prefix)),
        ] {
            assert_eq!(read(&values).expect_err("refused"), refused);
        }
    }
}
