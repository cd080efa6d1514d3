//! What needs more than a process that is killed: pages and names that a power cut takes, and a clock.

use blob_traits::Store;

use crate::case::group;

const SIMULATOR: &str = "needs the crash simulator";
const CLOCK: &str = "needs an injected clock";

group! {
    "crash", for S: Store;
    acked_import_survives_powercut [pending SIMULATOR],
    acked_delete_stays_deleted_or_harmless [pending SIMULATOR],
    unacked_import_all_or_nothing [pending SIMULATOR],
    status_complete_implies_bytes_verify_after_any_crash [pending SIMULATOR],
    two_crashes_in_recovery [pending SIMULATOR],
    sync_error_that_dropped_pages_is_not_trusted [pending SIMULATOR],
    torn_write_512b_partial_entry_detected [pending SIMULATOR],
    powercut_during_reference_export_either_location_valid [pending SIMULATOR],
    crash_leaves_only_collectable_garbage [pending SIMULATOR],
    clock_jump_backwards_no_effect [pending CLOCK],
}
