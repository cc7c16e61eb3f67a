//! How much memory an upload takes.

use benches::measure::Result;
use benches::peaks;

use crate::Arguments;
use crate::service::Service;

/// Sends and reads blobs of growing size.
pub(crate) async fn measure(arguments: &Arguments, service: &Service) -> Result<()> {
    let store = service.store("memory", arguments.segment << 20).await?;
    peaks::measure(&store, [1, 64, arguments.large].into_iter().filter(|mib| *mib <= arguments.large)).await
}
