//! Collection.

use blob_traits::{Store, Sweep};

use crate::case::group;

const COLLECTOR: &str = "needs the collector";

group! {
    "gc", for S: Store, Sweep;
    gc_empty_store_noop_callback_called [pending COLLECTOR],
    gc_deletes_untagged_complete [pending COLLECTOR],
    gc_deletes_untagged_partial [pending COLLECTOR],
    gc_keeps_tagged_raw_but_not_its_content_as_hashseq [pending COLLECTOR],
    gc_keeps_hashseq_and_children [pending COLLECTOR],
    gc_hashseq_children_not_recursed_nested [pending COLLECTOR],
    gc_raw_and_hashseq_tag_same_hash_children_kept [pending COLLECTOR],
    gc_protected_cb_hash_also_hashseq_tag_children_kept [pending COLLECTOR],
    gc_child_of_a_is_also_hashseq_root_children_kept [pending COLLECTOR],
    gc_mark_read_error_aborts_sweep_nothing_deleted [pending COLLECTOR],
    gc_partial_hashseq_root_present_children_kept [pending COLLECTOR],
    gc_malformed_hashseq_len_not_multiple_of_32_aborts_or_protects [pending COLLECTOR],
    gc_hashseq_10m_children_bounded_memory [pending COLLECTOR],
    gc_import_between_mark_and_sweep_kept [pending COLLECTOR],
    gc_set_tag_between_mark_and_sweep_kept [pending COLLECTOR],
    gc_download_in_progress_kept_by_temp_tag [pending COLLECTOR],
    gc_concurrent_reader_never_sees_wrong_bytes [pending COLLECTOR],
    gc_protected_cb_error_aborts_round [pending COLLECTOR],
    gc_round_error_does_not_kill_loop [pending COLLECTOR],
    gc_done_callback_every_round_with_outcome [pending COLLECTOR],
    gc_drop_future_stops_promptly_no_half_batch [pending COLLECTOR],
    gc_two_loops_serialised_or_refused [pending COLLECTOR],
    gc_deletes_external_reference_entry_never_the_users_file [pending COLLECTOR],
    gc_kill_at_every_io_op_no_live_loss_next_gc_finishes [pending COLLECTOR],
    gc_reclaims_disk_space_measured [pending COLLECTOR],
    gc_random_history_vs_reachability_model [pending COLLECTOR],
    gc_protection_of_a_hash_sequence_covers_its_children [pending COLLECTOR],
    gc_collector_goes_on_after_its_first_failed_round [pending COLLECTOR],
}
