//! A proxy on loopback that adds an `Authorization` header: the suite sends none.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use reqwest::redirect::Policy;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

/// The largest request that is passed on: far above what the suite sends.
const MAX_BODY: usize = 4 << 20;

/// A running proxy. It passes everything on as it is, `Host` and `Origin` too, and answers as they
/// come.
#[derive(Debug)]
pub struct Proxy {
    /// Its address; paths are those of the server behind it.
    pub url: Url,
    task: JoinHandle<std::io::Result<()>>,
}

#[derive(Debug, Clone)]
struct Behind {
    client: reqwest::Client,
    address: Url,
    authorization: HeaderValue,
}

impl Proxy {
    /// Starts a proxy in front of the server at `address`.
    pub async fn start(address: &Url, authorization: &str) -> Result<Self> {
        let mut authorization = HeaderValue::from_str(authorization).context("no header value")?;
        authorization.set_sensitive(true);
        let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build()?;
        let behind = Behind { client, address: address.clone(), authorization };
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let url = Url::parse(&format!("http://{}", listener.local_addr()?))?;
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let router = Router::new().fallback(pass).with_state(behind);
        Ok(Self { url, task: tokio::spawn(axum::serve(listener, router).into_future()) })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(behind): State<Behind>, request: Request) -> Response {
    match behind.ask(request).await {
        Ok(answer) => answer,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

impl Behind {
    /// If the client goes away, this or the answer's body is dropped, and with it the connection to
    /// the server.
    async fn ask(&self, request: Request) -> Result<Response> {
        let (parts, body) = request.into_parts();
        let mut address = self.address.clone();
        address.set_path(parts.uri.path());
        address.set_query(parts.uri.query());
        let mut headers = end_to_end(parts.headers);
        headers.insert(AUTHORIZATION, self.authorization.clone());
        let body = to_bytes(body, MAX_BODY).await?;
        let request = self.client.request(parts.method, address).headers(headers).body(body);
        let answer = request.send().await?;
        let mut response = Response::builder().status(answer.status());
        if let Some(all) = response.headers_mut() {
            *all = end_to_end(answer.headers().clone());
        }
        Ok(response.body(Body::from_stream(answer.bytes_stream()))?)
    }
}

/// Without what belongs to one connection, which each of the two says for itself.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for header in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(header);
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use axum::body::Bytes;
    use axum::routing::{any, get};
    use tokio::sync::{Mutex, mpsc};
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    async fn server(router: Router) -> Result<Url> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = Url::parse(&format!("http://{}", listener.local_addr()?))?;
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(url)
    }

    #[tokio::test]
    async fn a_request_arrives_as_it_was_sent_with_the_authorization_added() -> Result<()> {
        let echo = any(|request: Request| async move {
            let header =
                |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let seen = format!(
                "{} {} {:?} {:?} {:?} {:?}",
                request.method(),
                request.uri(),
                header("host"),
                header("origin"),
                header("authorization"),
                header("mcp-method"),
            );
            (StatusCode::IM_A_TEAPOT, [("mcp-session-id", "one")], seen)
        });
        let behind = server(Router::new().fallback(echo)).await?;
        let proxy = Proxy::start(&behind, "Bearer added").await?;
        let answer = reqwest::Client::new()
            .delete(proxy.url.join("/mcp/fixture?a=b")?)
            .header("host", "evil.example.com")
            .header("origin", "http://evil.example.com")
            .header("authorization", "Bearer of-the-client")
            .header("mcp-method", "tools/list")
            .send()
            .await?;
        assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT);
        assert_eq!(answer.headers()["mcp-session-id"], "one");
        assert_eq!(
            answer.text().await?,
            "DELETE /mcp/fixture?a=b Some(\"evil.example.com\") Some(\"http://evil.example.com\") \
             Some(\"Bearer added\") Some(\"tools/list\")"
        );
        Ok(())
    }

    #[tokio::test]
    async fn an_answer_arrives_piece_by_piece_and_its_end_is_seen_behind() -> Result<()> {
        let (pieces, source) = mpsc::channel::<Result<Bytes, Infallible>>(1);
        let source = Arc::new(Mutex::new(Some(source)));
        let stream = get(async move || {
            let source = source.lock().await.take().unwrap();
            Body::from_stream(ReceiverStream::new(source))
        });
        let behind = server(Router::new().route("/stream", stream)).await?;
        let proxy = Proxy::start(&behind, "Bearer x").await?;
        // The second piece is only made when the first has arrived.
        pieces.send(Ok("one".into())).await?;
        let client = reqwest::Client::builder().timeout(trustrelay_e2e::PATIENCE).build()?;
        let mut answer = client.get(proxy.url.join("/stream")?).send().await?;
        assert_eq!(answer.chunk().await?.as_deref(), Some(&b"one"[..]));
        pieces.send(Ok("two".into())).await?;
        assert_eq!(answer.chunk().await?.as_deref(), Some(&b"two"[..]));
        // The client leaves an answer that has not ended.
        drop(answer);
        tokio::time::timeout(trustrelay_e2e::PATIENCE, pieces.closed()).await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_bad_gateway() -> Result<()> {
        let nobody = Url::parse(&format!("http://127.0.0.1:{}", trustrelay_e2e::process::free_port()?))?;
        let proxy = Proxy::start(&nobody, "Bearer x").await?;
        assert_eq!(reqwest::get(proxy.url.clone()).await?.status(), StatusCode::BAD_GATEWAY);
        Ok(())
    }
}
