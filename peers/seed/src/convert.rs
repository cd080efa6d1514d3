//! The vocabulary of the one in the words of the other.

use blob_traits as ours;
use blob_traits::bao_tree as tree17;
use iroh_blobs as theirs;
use iroh_blobs::store as their_store;
use iroh_blobs::store::bao_tree as tree15;

pub(crate) fn hash_to_theirs(hash: ours::Hash) -> theirs::Hash {
    theirs::Hash::from_bytes(*hash.as_bytes())
}

pub(crate) fn hash_to_ours(hash: theirs::Hash) -> ours::Hash {
    ours::Hash::from(*hash.as_bytes())
}

pub(crate) fn format_to_theirs(format: ours::BlobFormat) -> theirs::BlobFormat {
    match format {
        ours::BlobFormat::Raw => theirs::BlobFormat::Raw,
        ours::BlobFormat::HashSeq => theirs::BlobFormat::HashSeq,
    }
}

fn format_to_ours(format: theirs::BlobFormat) -> ours::BlobFormat {
    match format {
        theirs::BlobFormat::Raw => ours::BlobFormat::Raw,
        theirs::BlobFormat::HashSeq => ours::BlobFormat::HashSeq,
    }
}

pub(crate) fn content_to_theirs(content: ours::HashAndFormat) -> theirs::HashAndFormat {
    theirs::HashAndFormat { hash: hash_to_theirs(content.hash), format: format_to_theirs(content.format) }
}

pub(crate) fn content_to_ours(content: theirs::HashAndFormat) -> ours::HashAndFormat {
    ours::HashAndFormat { hash: hash_to_ours(content.hash), format: format_to_ours(content.format) }
}

pub(crate) fn tag_to_theirs(tag: ours::Tag) -> theirs::Tag {
    theirs::Tag(tag.0)
}

pub(crate) fn tag_to_ours(tag: theirs::Tag) -> ours::Tag {
    ours::Tag(tag.0)
}

pub(crate) fn size_to_ours(size: their_store::BaoBlobSize) -> ours::BaoBlobSize {
    match size {
        their_store::BaoBlobSize::Unverified(size) => ours::BaoBlobSize::Unverified(size),
        their_store::BaoBlobSize::Verified(size) => ours::BaoBlobSize::Verified(size),
    }
}

pub(crate) fn status_to_ours(status: &their_store::EntryStatus) -> ours::EntryStatus {
    match status {
        their_store::EntryStatus::Complete => ours::EntryStatus::Complete,
        their_store::EntryStatus::Partial => ours::EntryStatus::Partial,
        their_store::EntryStatus::NotFound => ours::EntryStatus::NotFound,
    }
}

pub(crate) fn tree_to_ours(tree: tree15::BaoTree) -> tree17::BaoTree {
    let block_size = tree17::BlockSize::from_chunk_log(tree.block_size().chunk_log());
    tree17::BaoTree::new(tree.size(), block_size)
}

pub(crate) fn item_to_theirs(item: tree17::io::BaoContentItem) -> tree15::io::fsm::BaoContentItem {
    match item {
        tree17::io::BaoContentItem::Parent(parent) => {
            tree15::io::Parent { node: node_to_theirs(parent.node), pair: parent.pair }.into()
        }
        tree17::io::BaoContentItem::Leaf(leaf) => {
            tree15::io::Leaf { offset: leaf.offset, data: leaf.data }.into()
        }
    }
}

/// Finds the node of the same number. Numbers are private in both, and there is no way to make a node from one: so it
/// is the way down from the node in the middle of all numbers.
pub(crate) fn node_to_theirs(node: tree17::TreeNode) -> tree15::TreeNode {
    let leaf = tree15::BaoTree::new(0, tree15::BlockSize::ZERO).root();
    if node.level() == u64::BITS {
        // The greatest number is a node of no tree, and below nothing.
        return leaf.subtract_block_size(1).subtract_block_size(63);
    }
    let mut at = leaf.subtract_block_size(63);
    loop {
        let below = match at.mid().0.cmp(&node.mid().0) {
            std::cmp::Ordering::Equal => return at,
            std::cmp::Ordering::Greater => at.left_child(),
            std::cmp::Ordering::Less => at.right_child(),
        };
        at = below.expect("all numbers but the greatest are below the one in the middle");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_keep_their_number() {
        let small = tree17::BaoTree::new(5_000_000, ours::BLOCK_SIZE);
        let huge = tree17::BaoTree::new(1 << 60, ours::BLOCK_SIZE);
        let mut nodes: Vec<_> = small.pre_order_nodes_iter().collect();
        let mut spine = huge.pre_order_nodes_iter().next();
        while let Some(node) = spine {
            nodes.push(node);
            spine = node.right_child();
        }
        let one_leaf = tree17::BaoTree::new(0, tree17::BlockSize::ZERO);
        let leaf = one_leaf.pre_order_nodes_iter().next().unwrap();
        nodes.extend([
            leaf,
            leaf.subtract_block_size(63),
            leaf.subtract_block_size(1).subtract_block_size(63),
        ]);
        for node in nodes {
            assert_eq!(node_to_theirs(node).to_string(), node.to_string());
        }
    }

    #[test]
    fn hashes_formats_and_tags_keep_their_bytes() {
        let hash = ours::Hash::new(b"a");
        for content in [ours::HashAndFormat::raw(hash), ours::HashAndFormat::hash_seq(hash)] {
            assert_eq!(content_to_ours(content_to_theirs(content)), content);
        }
        let tag = ours::Tag::from(&b"\xff\x00"[..]);
        assert_eq!(tag_to_ours(tag_to_theirs(tag.clone())), tag);
    }
}
