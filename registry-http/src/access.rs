//! Whether a request may do what it asks for: by [`auth`](crate::auth), or, without that feature, always.

#[cfg(feature = "auth")]
pub(crate) use crate::auth::gate::{Caller, admit};
#[cfg(feature = "auth")]
pub(crate) use crate::auth::token;

#[cfg(not(feature = "auth"))]
pub(crate) use self::open::{Caller, admit, token};

#[cfg(not(feature = "auth"))]
mod open {
    use axum::response::Response;
    use http::request::Parts;
    use registry_core::RepositoryName;

    use crate::App;
    use crate::error::Failure;
    use crate::request::Call;
    use crate::route::Target;

    /// Anybody.
    #[derive(Debug, Default)]
    pub(crate) struct Caller(());

    #[allow(clippy::unused_self, reason = "there are others with the feature")]
    impl Caller {
        pub(crate) fn name(&self) -> &str {
            ""
        }

        pub(crate) fn may_pull(&self, _: &RepositoryName) -> bool {
            true
        }

        pub(crate) fn may_see(&self, _: &RepositoryName) -> bool {
            true
        }

        pub(crate) fn may_see_all(&self) -> bool {
            true
        }

        pub(crate) fn may_pull_everywhere(&self) -> bool {
            true
        }
    }

    pub(crate) async fn admit(_: &App, _: &Parts, _: &Target, _: &str) -> Result<Caller, Failure> {
        Ok(Caller::default())
    }

    pub(crate) async fn token(_: &mut Call<'_>, _: &str) -> Result<Response, Failure> {
        Err(Failure::unknown_route())
    }
}
