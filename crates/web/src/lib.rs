//! Part of TrustRelay.
