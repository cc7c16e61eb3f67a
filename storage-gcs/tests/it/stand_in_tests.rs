//! That the stand-in refuses what it must, so that a client that passes has done it right.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Builder;
use http::{Method, Request};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, AwsCredential, Checksum};
use object_store::client::HttpRequestBody;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::multipart::MultipartStore as _;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{ClientOptions, ObjectStore as _, ObjectStoreExt as _, PutMode, RetryConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stand_in::StandIn;

fn google(stand_in: &StandIn) -> GoogleCloudStorage {
    let builder = GoogleCloudStorageBuilder::new().with_service_account_key(stand_in.service_account());
    builder.with_bucket_name("bucket").with_client_options(plain()).with_retry(once()).build().unwrap()
}

fn amazon(stand_in: &StandIn) -> AmazonS3Builder {
    let builder = AmazonS3Builder::new().with_endpoint(stand_in.url()).with_bucket_name("bucket").with_region("auto");
    let builder = builder.with_access_key_id(stand_in.access_key()).with_secret_access_key(stand_in.secret_key());
    builder.with_client_options(plain()).with_retry(once())
}

fn plain() -> ClientOptions {
    ClientOptions::new().with_allow_http(true)
}

fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

async fn put(store: AmazonS3Builder) -> String {
    let store: AmazonS3 = store.build().unwrap();
    store.put(&Path::from("key"), "content".into()).await.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}

fn ask(method: Method, stand_in: &StandIn, target: &str) -> Builder {
    Request::builder().method(method).uri(format!("{}{target}", stand_in.url()))
}

/// Sends a request as it is. The status, and all of the answer.
async fn send(request: Builder, body: &str) -> (u16, String) {
    let request = request.body(()).unwrap();
    let authority = request.uri().authority().unwrap().as_str();
    let target = request.uri().path_and_query().unwrap();
    let mut text = format!("{} {target} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n", request.method());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    text += &format!("content-length: {}\r\n\r\n{body}", body.len());
    let mut stream = TcpStream::connect(authority).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

/// As an S3 client signs it, with all its headers.
fn signed(stand_in: &StandIn, request: Builder, body: &str) -> Builder {
    let (key_id, secret_key) = (stand_in.access_key().to_owned(), stand_in.secret_key().to_owned());
    let credential = AwsCredential { key_id, secret_key, token: None };
    let mut request = request.body(HttpRequestBody::from(body.to_owned())).unwrap();
    AwsAuthorizer::new(&credential, "s3", "auto").try_authorize(&mut request, None).unwrap();
    let builder = Request::builder().method(request.method()).uri(request.uri());
    request.headers().iter().fold(builder, |builder, (name, value)| builder.header(name, value))
}

#[track_caller]
fn assert_refused((status, answer): &(u16, String), expected: u16, code: &str) {
    assert!(*status == expected && answer.contains(&format!("<Code>{code}</Code>")), "{answer}");
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_so_is_an_unknown_key() {
    let stand_in = StandIn::start("bucket").await;
    assert_eq!(put(amazon(&stand_in)).await, "done");
    assert_eq!(put(amazon(&stand_in).with_unsigned_payload(true)).await, "done");
    let wrong = put(amazon(&stand_in).with_secret_access_key("another")).await;
    assert!(wrong.contains("SignatureDoesNotMatch"), "{wrong}");
    let unknown = put(amazon(&stand_in).with_access_key_id("GOOG1ANOTHER")).await;
    assert!(unknown.contains("InvalidAccessKeyId"), "{unknown}");
    assert_refused(&send(ask(Method::GET, &stand_in, "/bucket/key"), "").await, 401, "AuthenticationRequired");
}

#[tokio::test]
async fn a_signature_is_good_for_one_time_and_one_body() {
    let stand_in = StandIn::start("bucket").await;
    let request = signed(&stand_in, ask(Method::PUT, &stand_in, "/bucket/key"), "content");
    assert_refused(&send(request, "another").await, 400, "XAmzContentSHA256Mismatch");
    for skew in [-16 * 60, 16 * 60] {
        stand_in.set_clock_skew(skew);
        let refused = put(amazon(&stand_in)).await;
        assert!(refused.contains("RequestTimeTooSkewed"), "{refused}");
    }
    stand_in.set_clock_skew(14 * 60);
    assert_eq!(put(amazon(&stand_in)).await, "done");
}

#[tokio::test]
async fn a_checksum_header_is_refused() {
    let stand_in = StandIn::start("bucket").await;
    for checksum in [Checksum::SHA256, Checksum::CRC64NVME] {
        let refused = put(amazon(&stand_in).with_checksum_algorithm(checksum)).await;
        assert!(refused.contains("ExcessHeaderValues"), "{refused}");
    }
}

#[tokio::test]
async fn headers_of_both_kinds_are_refused_and_so_are_unsigned_ones() {
    let stand_in = StandIn::start("bucket").await;
    let request = ask(Method::PUT, &stand_in, "/bucket/key").header("x-goog-if-generation-match", "0");
    assert_refused(&send(signed(&stand_in, request, ""), "").await, 400, "ExcessHeaderValues");
    let request = signed(&stand_in, ask(Method::PUT, &stand_in, "/bucket/key"), "").header("x-amz-meta-added", "later");
    assert_refused(&send(request, "").await, 403, "SignatureDoesNotMatch");
}

#[tokio::test]
async fn neither_a_part_is_copied_nor_are_many_deleted_at_once() {
    let stand_in = StandIn::start("bucket").await;
    assert_eq!(put(amazon(&stand_in)).await, "done");
    let id = google(&stand_in).create_multipart(&Path::from("large")).await.unwrap();
    let target = format!("/bucket/large?partNumber=1&uploadId={id}");
    let request = ask(Method::PUT, &stand_in, &target).header("x-amz-copy-source", "bucket/key");
    let request = request.header("x-amz-copy-source-range", "bytes=0-1");
    assert_refused(&send(signed(&stand_in, request, ""), "").await, 400, "NotImplemented");
    let whole = ask(Method::PUT, &stand_in, "/bucket/copy").header("x-amz-copy-source", "/bucket/k%65y");
    assert_eq!(send(signed(&stand_in, whole, ""), "").await.0, 200);
    let request = signed(&stand_in, ask(Method::POST, &stand_in, "/bucket?delete"), "<Delete/>");
    assert_refused(&send(request, "<Delete/>").await, 400, "NotImplemented");
    assert_eq!((stand_in.objects(), stand_in.open_multiparts()), (vec!["copy".to_owned(), "key".to_owned()], 1));
}

#[tokio::test]
async fn a_token_is_good_as_it_was_signed_and_for_an_hour() {
    let stand_in = StandIn::start("bucket").await;
    let store = google(&stand_in);
    store.put(&Path::from("key"), "content".into()).await.unwrap();
    let token = store.credentials().get_credential().await.unwrap().bearer.clone();
    let get = async |token: &str| {
        let request = ask(Method::GET, &stand_in, "/bucket/key").header("authorization", format!("Bearer {token}"));
        send(request, "").await
    };
    assert_eq!(get(&token).await.0, 200);

    let parts: Vec<_> = token.split('.').collect();
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let tampered = URL_SAFE_NO_PAD.encode(claims.replace("cloud-platform", "cloud-platform devstorage"));
    assert_refused(&get(&[parts[0], &tampered, parts[2]].join(".")).await, 401, "AuthenticationRequired");
    let others = google(&StandIn::start("bucket").await).credentials().get_credential().await.unwrap();
    assert_refused(&get(&others.bearer).await, 401, "AuthenticationRequired");
    for skew in [-3600, 3601] {
        stand_in.set_clock_skew(skew);
        assert_refused(&get(&token).await, 401, "AuthenticationRequired");
    }
}

#[tokio::test]
async fn a_signed_url_is_good_as_it_was_signed_and_until_it_expires() {
    let stand_in = StandIn::start("bucket").await;
    let store = google(&stand_in);
    let key = Path::from("a key/&+");
    store.put(&key, "content".into()).await.unwrap();
    let options = SignedUrlOptions::default().with_query([("response-content-type", "text/x y+z")]);
    for signer in [&store as &dyn Signer, &amazon(&stand_in).build().unwrap()] {
        stand_in.set_clock_skew(0);
        let url = signer.signed_url_opts(Method::GET, &key, Duration::from_secs(60), &options).await.unwrap();
        let (status, answer) = send(Request::builder().uri(url.as_str()), "").await;
        assert!(status == 200 && answer.contains("\r\ncontent-type: text/x y+z\r\n") && answer.ends_with("content"), "{answer}");

        let another = url.as_str().replace("text", "image");
        assert_refused(&send(Request::builder().uri(another), "").await, 403, "SignatureDoesNotMatch");
        let longer = url.as_str().replace("-Expires=60", "-Expires=600");
        assert_refused(&send(Request::builder().uri(longer), "").await, 403, "SignatureDoesNotMatch");
        let request = Request::builder().method(Method::DELETE).uri(url.as_str());
        assert_refused(&send(request, "").await, 403, "SignatureDoesNotMatch");
        stand_in.set_clock_skew(62);
        assert_refused(&send(Request::builder().uri(url.as_str()), "").await, 400, "ExpiredToken");
    }
}

#[tokio::test]
async fn a_machines_token_is_issued_to_who_asks_with_the_header() {
    let stand_in = StandIn::start("bucket").await;
    let target = "/computeMetadata/v1/instance/service-accounts/default/token";
    assert_eq!(send(ask(Method::GET, &stand_in, target), "").await.0, 403);
    let (_, answer) = send(ask(Method::GET, &stand_in, target).header("metadata-flavor", "Google"), "").await;
    let (_, answer) = answer.split_once("\r\n\r\n").unwrap();
    let token: serde_json::Value = serde_json::from_str(answer).unwrap();
    let token = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let target = "/v1/projects/-/serviceAccounts/stand-in@test.iam.gserviceaccount.com:signBlob";
    let sign = ask(Method::POST, &stand_in, target).header("authorization", &token);
    let (status, answer) = send(sign, r#"{"payload": "dGV4dA=="}"#).await;
    assert!(status == 200 && answer.contains("signedBlob"), "{answer}");
    assert_eq!(send(ask(Method::POST, &stand_in, target), r#"{"payload": "dGV4dA=="}"#).await.0, 401);
    let list = || ask(Method::GET, &stand_in, "/bucket?list-type=2").header("authorization", &token);
    assert_eq!(send(list(), "").await.0, 200);
    stand_in.set_clock_skew(3600);
    assert_refused(&send(list(), "").await, 401, "AuthenticationRequired");
}

#[tokio::test]
async fn a_generation_counts_for_an_object_and_is_refused_for_an_upload() {
    let stand_in = StandIn::start("bucket").await;
    let (store, key) = (google(&stand_in), Path::from("key"));
    store.put_opts(&key, "one".into(), PutMode::Create.into()).await.unwrap();
    let again = store.put_opts(&key, "two".into(), PutMode::Create.into()).await;
    assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })), "{again:?}");
    let token = store.credentials().get_credential().await.unwrap().bearer.clone();
    let request = ask(Method::POST, &stand_in, "/bucket/key?uploads").header("authorization", format!("Bearer {token}"));
    assert_refused(&send(request.header("x-goog-if-generation-match", "0"), "").await, 400, "NotImplemented");
    // Amazon's condition is ignored.
    let request = ask(Method::PUT, &stand_in, "/bucket/key").header("if-none-match", "*");
    assert_eq!(send(signed(&stand_in, request, "three"), "three").await.0, 200);
}

#[tokio::test]
async fn an_upload_is_completed_by_large_parts_that_are_there() {
    let stand_in = StandIn::start("bucket").await;
    let (store, key) = (google(&stand_in), Path::from("key"));
    let id = store.create_multipart(&key).await.unwrap();
    let small = store.put_part(&key, &id, 0, "small".into()).await.unwrap();
    let last = store.put_part(&key, &id, 1, "last".into()).await.unwrap();
    let refused = store.complete_multipart(&key, &id, vec![small, last.clone()]).await.unwrap_err();
    assert!(format!("{refused:?}").contains("EntityTooSmall"), "{refused:?}");
    let large = store.put_part(&key, &id, 0, vec![0; 5 << 20].into()).await.unwrap();
    let refused = store.complete_multipart(&key, &id, vec![last.clone(), large.clone()]).await.unwrap_err();
    assert!(format!("{refused:?}").contains("InvalidPart"), "{refused:?}");
    store.complete_multipart(&key, &id, vec![large, last]).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap().size, (5 << 20) + 4);
    let refused = store.abort_multipart(&key, &id).await.unwrap_err();
    assert!(format!("{refused:?}").contains("NoSuchUpload"), "{refused:?}");
}

#[tokio::test]
async fn listings_have_pages() {
    let stand_in = StandIn::start("bucket").await;
    let store = google(&stand_in);
    let list = async |target: &str| send(signed(&stand_in, ask(Method::GET, &stand_in, target), ""), "").await.1;
    let between = |text: &str, name: &str| {
        let tag = format!("<{name}>");
        text.split(&tag).skip(1).map(|part| part.split('<').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut ids = Vec::new();
    for key in ["a", "a", "b", "c"] {
        ids.push(store.create_multipart(&Path::from(key)).await.unwrap());
        store.put(&Path::from(format!("{key}/{}", ids.len())), "content".into()).await.unwrap();
    }
    // Those of one key are in the order of their names, which say nothing.
    ids[..2].sort();
    for at in [0, 4, 2] {
        store.put_part(&Path::from("a"), &ids[0], at, "part".into()).await.unwrap();
    }

    let page = list("/bucket?uploads&prefix=&max-uploads=1").await;
    assert_eq!((between(&page, "UploadId"), between(&page, "IsTruncated")), (ids[..1].to_vec(), vec!["true".to_owned()]));
    let (key, id) = (&between(&page, "NextKeyMarker")[0], &between(&page, "NextUploadIdMarker")[0]);
    let page = list(&format!("/bucket?uploads&key-marker={key}&upload-id-marker={id}")).await;
    assert_eq!((between(&page, "UploadId"), between(&page, "IsTruncated")), (ids[1..].to_vec(), vec!["false".to_owned()]));
    assert_eq!(between(&list("/bucket?uploads&key-marker=a").await, "Key"), ["b", "c"]);

    let page = list(&format!("/bucket/a?uploadId={}&max-parts=2", ids[0])).await;
    assert_eq!(
        (between(&page, "PartNumber"), &between(&page, "NextPartNumberMarker")[..]),
        (vec!["1".into(), "3".into()], &["3".into()][..])
    );
    let page = list(&format!("/bucket/a?uploadId={}&part-number-marker=3", ids[0])).await;
    assert_eq!((between(&page, "PartNumber"), &between(&page, "IsTruncated")[..]), (vec!["5".into()], &["false".into()][..]));

    let (mut prefixes, mut query) = (Vec::new(), String::new());
    while prefixes.len() < 3 {
        let page = list(&format!("/bucket?list-type=2&delimiter=/&max-keys=1{query}")).await;
        prefixes.push(between(&page, "CommonPrefixes><Prefix").concat());
        query = between(&page, "NextContinuationToken").iter().map(|token| format!("&continuation-token={token}")).collect();
    }
    assert_eq!((prefixes, query), (vec!["a/".into(), "b/".into(), "c/".into()], String::new()));
}

#[tokio::test]
async fn nothing_is_done_for_who_is_denied_or_while_it_is_stopped() {
    let stand_in = StandIn::start("bucket").await;
    let (store, key) = (google(&stand_in), Path::from("key"));
    store.put(&key, "content".into()).await.unwrap();
    let absent = store.delete(&Path::from("another")).await;
    assert!(matches!(absent, Err(object_store::Error::NotFound { .. })), "{absent:?}");
    stand_in.deny(true);
    let denied = store.get(&key).await;
    assert!(matches!(denied, Err(object_store::Error::PermissionDenied { .. })), "{denied:?}");
    stand_in.deny(false);
    stand_in.corrupt("key");
    stand_in.stop().await;
    store.head(&key).await.unwrap_err();
    stand_in.start_again();
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "contenu");
    assert_eq!(stand_in.objects(), ["key"]);
    assert_eq!(stand_in.log().last().unwrap(), &("GET".to_owned(), "/bucket/key".to_owned()));
}
