//! [`Dialect`]: what services that speak S3's protocol have of it.

/// What a service has of S3's protocol. What is not here is the same for all, or makes no difference, whichever way a service answers: see the crate's own
/// documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dialect {
    service: &'static str,
    /// Whether objects are put together from parts of others (`UploadPartCopy`). A service that has it not after all is found out.
    pub part_copies: bool,
    /// Whether many objects are deleted in one request (`DeleteObjects`).
    pub bulk_deletes: bool,
    /// Whether the service compares what it gets with a checksum in a header (`x-amz-checksum-crc64nvme`).
    pub checksums: bool,
    /// Whether the MD5 of what is sent goes with it (`Content-MD5`), to be compared: not needed where there are checksums, which cost less.
    pub content_md5: bool,
    /// The most bytes that are copied in one request; more goes by parts.
    pub copy_limit: u64,
}

impl Dialect {
    /// Amazon S3 itself. Copies of more than 256 MiB go by parts, which are copied at the same time.
    pub const fn amazon() -> Self {
        Self { service: "S3", part_copies: true, bulk_deletes: true, checksums: true, content_md5: false, copy_limit: 256 << 20 }
    }

    /// Ceph RadosGW, SeaweedFS, Garage, and others: without the checksums, which some of them take and do not look at; with MD5s, which all of them compare. (Without
    /// one, SeaweedFS takes what was changed on its way, signed or not, and keeps an empty object if a sender is cut off just before its first byte.) One of their copies is often no
    /// more than another reference to the same bytes, so that only what is above S3's limit of 5 GiB goes by parts.
    pub const fn compatible() -> Self {
        Self { checksums: false, content_md5: true, copy_limit: 5 << 30, ..Self::amazon() }
    }

    /// Google Cloud Storage with interoperability keys: it refuses checksum headers, has no part copies, and takes copies of any size; that it deletes many objects at
    /// once is too new to rely on. <https://cloud.google.com/storage/docs/interoperability>
    pub const fn google() -> Self {
        Self {
            service: "Google Cloud Storage",
            part_copies: false,
            bulk_deletes: false,
            checksums: false,
            content_md5: true,
            copy_limit: u64::MAX,
        }
    }

    pub(crate) fn service(self) -> &'static str {
        self.service
    }

    pub(crate) fn is_google(self) -> bool {
        self.service == Self::google().service
    }
}
