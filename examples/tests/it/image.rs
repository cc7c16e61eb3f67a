//! Images made on the fly, as OCI layout directories (image-spec, `image-layout.md`).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use registry_core::testing::Rng;
use registry_core::{Algorithm, Digest, Hasher};
use serde_json::{Value, json};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layout directory that is being filled.
pub(crate) struct Layout {
    path: PathBuf,
    entries: Vec<Value>,
}

/// Hashes and counts on the way to another writer.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    len: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(Algorithm::Sha256), len: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.len += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl Layout {
    pub(crate) fn new(path: &Path) -> Self {
        std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        Self { path: path.to_owned(), entries: Vec::new() }
    }

    fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = Digest::sha256(content);
        std::fs::write(self.path.join("blobs/sha256").join(digest.hex()), content).unwrap();
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": content.len() })
    }

    /// A layer: a gzipped tar of one file of so many random bytes. Returns its descriptor and the digest of the tar.
    fn layer(&self, seed: u64, len: usize) -> (Value, Digest) {
        let temporary = self.path.join(format!("layer-{seed}"));
        let file = Hashing::new(BufWriter::with_capacity(1 << 20, File::create(&temporary).unwrap()));
        // Stored, not compressed: the bytes are random.
        let mut tar = Hashing::new(GzEncoder::new(file, Compression::none()));
        tar.write_all(&tar_header(&format!("file-{seed}"), len as u64)).unwrap();
        let (mut rng, mut left) = (Rng::new(seed), len);
        while left > 0 {
            let part = rng.bytes(left.min(1 << 20));
            tar.write_all(&part).unwrap();
            left -= part.len();
        }
        tar.write_all(&vec![0; (512 - len % 512) % 512 + 1024]).unwrap();
        let diff_id = tar.hasher.finalize();
        let mut file = tar.inner.finish().unwrap();
        file.flush().unwrap();
        let digest = file.hasher.finalize();
        std::fs::rename(&temporary, self.path.join("blobs/sha256").join(digest.hex())).unwrap();
        (json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest.to_string(), "size": file.len }), diff_id)
    }

    /// An image of layers of these sizes; its descriptor.
    fn image(&self, architecture: &str, seed: u64, layers: &[usize]) -> Value {
        let (layers, diff_ids): (Vec<_>, Vec<_>) = (0..).zip(layers).map(|(n, len)| self.layer(seed * 1000 + n, *len)).unzip();
        let diff_ids: Vec<_> = diff_ids.iter().map(ToString::to_string).collect();
        let config = json!({ "architecture": architecture, "os": "linux", "config": { "Cmd": ["/file"] }, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Adds an image under a tag.
    pub(crate) fn add_image(&mut self, tag: &str, seed: u64, layers: &[usize]) {
        let image = self.image("amd64", seed, layers);
        self.add(tag, image);
    }

    /// Adds an image for several platforms under a tag.
    pub(crate) fn add_index(&mut self, tag: &str, seed: u64, architectures: &[&str]) {
        let manifests: Vec<_> = (0..)
            .zip(architectures)
            .map(|(n, architecture)| {
                let mut image = self.image(architecture, seed + n, &[1000, 20_000]);
                image["platform"] = json!({ "architecture": architecture, "os": "linux" });
                image
            })
            .collect();
        let index = self.blob(INDEX, json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string().as_bytes());
        self.add(tag, index);
    }

    fn add(&mut self, tag: &str, mut descriptor: Value) {
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        self.entries.push(descriptor);
    }

    /// Writes what makes the directory a layout.
    pub(crate) fn finish(self) {
        std::fs::write(self.path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let index = json!({ "schemaVersion": 2, "manifests": self.entries });
        std::fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }
}

/// A ustar header of a plain file (POSIX.1-1988: octal fields, the checksum over the header with spaces in its own place).
fn tar_header(name: &str, len: u64) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{len:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The names of all blobs of a layout, after making sure that each has the content that its name says.
pub(crate) fn blobs(layout: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let mut hashing = Hashing::new(std::io::sink());
            std::io::copy(&mut File::open(entry.path()).unwrap(), &mut hashing).unwrap();
            assert_eq!(hashing.hasher.finalize().hex(), name);
            name
        })
        .collect();
    names.sort();
    names
}

/// The digests that a layout's tags stand for.
pub(crate) fn roots(layout: &Path) -> Vec<String> {
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let mut roots: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect();
    roots.sort();
    roots
}
