//! A storm of new clients, each of which does a handshake of TLS and leaves.
//!
//!     taskset --cpu-list 1 storm HOST:PORT RATE SECONDS
//!
//! The clients do not check the server's certificate, so that they cost little. The program prints
//! a JSON object: how many clients a second came to the end of their handshake, and the times of
//! that in microseconds; `failed` are those that did not.
#![allow(clippy::print_stdout, reason = "that is how it reports")]

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsConnector;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Time that handshakes may take that are under way at the end.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [address, rate, seconds] = words.as_slice() else {
        return Err("expected HOST:PORT RATE SECONDS".into());
    };
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(run(address.clone(), rate.parse()?, seconds.parse()?))
}

async fn run(address: String, rate: f64, seconds: f64) -> Result<()> {
    let mut config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Every client is a new one.
    config.resumption = rustls::client::Resumption::disabled();
    let tls = TlsConnector::from(Arc::new(config));
    let times = Rc::<RefCell<Vec<Duration>>>::default();
    let begin = Instant::now();
    let count = (rate * seconds) as usize;
    let mut clients = Vec::new();
    for number in 0..count {
        sleep_until((begin + Duration::from_secs_f64(number as f64 / rate)).into()).await;
        let (tls, address, times) = (tls.clone(), address.clone(), times.clone());
        clients.push(spawn_local(async move {
            let began = Instant::now();
            if timeout(PATIENCE, shake(&tls, &address)).await.is_ok_and(|shaken| shaken.is_ok()) {
                times.borrow_mut().push(began.elapsed());
            }
        }));
    }
    for client in clients {
        client.await?;
    }
    let mut times = times.take();
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).map(Duration::as_micros);
    println!(
        "{}",
        json!({
            "per_second": times.len() as f64 / begin.elapsed().as_secs_f64(),
            "failed": count - times.len(),
            "p50": at(0.5).map(|time| time as u64),
            "p99": at(0.99).map(|time| time as u64),
        })
    );
    Ok(())
}

async fn shake(tls: &TlsConnector, address: &str) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    tls.connect(ServerName::try_from("localhost")?, stream).await?;
    Ok(())
}

/// A client that takes any server's certificate and signature.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
