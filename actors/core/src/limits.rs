//! Every bound that is not a setting, in one place: its unit in its name, and why it is what it is. What an
//! operator may change is in the node's settings; their defaults and hard ends are here.

/// Bytes of a routing key (a chat user is at most 128): longer ones only cost, they never route better.
pub const ROUTING_KEY_BYTES_MAX: usize = 1024;
/// Bytes of a key in a store: routing key, escaped at worst to twice its size, plus what a module appends.
pub const STORE_KEY_BYTES_MAX: usize = 4096;
/// Bytes of one stored value: four objects of 50 MiB, which sides of a cut network wrote and which are joined, and room
/// for what describes them.
pub const STORE_VALUE_BYTES_MAX: usize = 208 * 1024 * 1024;
/// Bytes of one encoded message: a stored value and what goes with it. What is larger than a part travels in parts.
pub const MESSAGE_BYTES_MAX: usize = 224 * 1024 * 1024;
/// Bytes of the body of one frame. A node of a release that knows no parts is sent nothing larger.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one part of a large message, and of the largest message that travels whole: what everything else on a
/// connection may have to wait for, a fraction of a millisecond of a fast network.
pub const PART_BYTES: usize = 256 * 1024;
/// Large messages that may be unfinished at a time in one direction of a connection.
pub const PARTED_MESSAGES_MAX: usize = 8;
/// Bytes of all of them together, as announced: one of the largest, or several of others.
pub const PARTED_BYTES_MAX: usize = MESSAGE_BYTES_MAX;
/// Bytes that a decoder may be made to allocate by a message of up to a sixteenth of that. For a larger message it is
/// what a message may have.
pub const DECODED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one message before two nodes know each other: a greeting has a few hundred.
pub const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a node's name on the wire: as long as a host name may be.
pub const NODE_NAME_BYTES_MAX: usize = 255;
/// Bytes of a reason in words (a refusal, a goodbye): a few lines for a log, never a document.
pub const REASON_BYTES_MAX: usize = 1024;
/// Fewest partitions of a ring: with fewer, eight nodes could not each own one.
pub const RING_SIZE_MIN: u32 = 8;
/// Most partitions of a ring: partition numbers are 16 bits wide.
pub const RING_SIZE_MAX: u32 = 65_536;
/// Partitions of a new ring unless configured: Riak's default, good to about ten nodes.
pub const RING_SIZE_DEFAULT: u32 = 64;
/// Most replicas of a key. More than Riak users ever ran, and small enough for fixed-size tables.
pub const N_VAL_MAX: usize = 16;
/// Replicas of a key unless configured.
pub const N_VAL_DEFAULT: usize = 3;
/// Bytes of a service's name: it names keyspaces on disk.
pub const SERVICE_NAME_BYTES_MAX: usize = 32;
/// How often a data directory may be started: message ids carry 24 bits of the boot number.
pub const BOOTS_MAX: u32 = (1 << 24) - 1;
/// How far ahead of the local clock a time from outside may lie before it is not believed.
pub const CLOCK_AHEAD_MS_MAX: u64 = 5 * 60 * 1000;
/// Members that a cluster has ever had, removed ones included: bounds what a peer can make us keep.
pub const MEMBERS_MAX: usize = 8192;
/// Bytes of a node's address: a DNS name of 253 bytes and a port.
pub const ADDRESS_BYTES_MAX: usize = 260;
/// Bytes of a location's name.
pub const LOCATION_BYTES_MAX: usize = 256;
/// How many consecutive partitions are to be on distinct nodes: one more than the usual three replicas, so
/// that a fallback is a fourth node and not one of the three.
pub const TARGET_N: usize = 4;
/// Items that one turn may touch: a turn is microseconds of work, and its effects wait in memory.
pub const TURN_ITEMS_MAX: usize = 4096;
/// Items of one batch of a transfer: what a receiver takes in between two answers to its clients.
pub const BATCH_ITEMS_MAX: usize = 1000;
/// Bytes of one batch of a transfer, unless it is a single item: a millisecond of a fast network.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Batches of a transfer that may be on their way without an acknowledgement: enough to hide one sync of the
/// receiver's disk, and all that is sent twice after a cut.
pub const WINDOW_BATCHES_MAX: u16 = 8;
/// Bytes of them together, unless it is a single one: a batch of one large item is alone on its way.
pub const WINDOW_BYTES_MAX: usize = WINDOW_BATCHES_MAX as usize * BATCH_BYTES_MAX;
/// Services whose data one transfer of a partition can carry; as many as a node can report.
pub const TRANSFER_SERVICES_MAX: usize = 64;
/// Keys of one vnode that may be dirty: two bytes-and-a-key each in memory and on disk. With more of them the
/// transfer begins anew, which then costs less.
pub const DIRTY_KEYS_MAX: usize = 65_536;
/// Transfers into a node at a time, and as many out of it, unless set otherwise.
pub const HANDOFF_LIMIT_DEFAULT: u32 = 4;
/// Most transfers that may be set: each costs a connection, a snapshot and a window of batches at both ends.
pub const HANDOFF_LIMIT_MAX: u32 = 64;
/// Fewest bytes a second to which a transfer may be slowed: a cluster that is to settle some day needs some. After the
/// largest item a sender then rests for a quarter of an hour, and says meanwhile that it lives.
pub const HANDOFF_BYTES_PER_SECOND_MIN: u64 = 256 * 1024;
/// Most bytes a second that may be set: beyond any disk.
pub const HANDOFF_BYTES_PER_SECOND_MAX: u64 = 1024 * 1024 * 1024 * 1024;
/// Bytes of the name of a namespace of metadata.
pub const METADATA_NAME_BYTES_MAX: usize = 32;
/// Bytes of a key of metadata: two names of nodes or services, and words between them.
pub const METADATA_KEY_BYTES_MAX: usize = 512;
/// Bytes of a value of metadata. Every node keeps all of them in memory: what is larger belongs in a module's store.
pub const METADATA_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a namespace, which travels whole after every change in it.
pub const METADATA_NAMESPACE_BYTES_MAX: usize = 1024 * 1024;
/// Namespaces.
pub const METADATA_NAMESPACES_MAX: usize = 64;
/// Bytes of all metadata, as far as somebody writes.
pub const METADATA_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of all metadata after a join: parts of a cluster that did not see each other may have written within their
/// bounds, and what they wrote must meet. It has to fit into a file and a message.
pub const METADATA_JOINED_BYTES_MAX: usize = 12 * 1024 * 1024;
/// Bytes of namespaces in one message, unless it is a single one: what waits behind it on a connection waits not long.
pub const METADATA_PART_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of the value of a setting that is changed at run time: a filter of logs may be long.
pub const SETTING_VALUE_BYTES_MAX: usize = 1024;
/// Bytes of the name of a feature.
pub const FEATURE_NAME_BYTES_MAX: usize = 32;
/// Features that a release may have.
pub const FEATURES_MAX: usize = 64;

const _: () = {
    assert!(METADATA_VALUE_BYTES_MAX < METADATA_NAMESPACE_BYTES_MAX);
    assert!(METADATA_NAMESPACE_BYTES_MAX < METADATA_PART_BYTES_MAX);
    assert!(METADATA_BYTES_MAX < METADATA_JOINED_BYTES_MAX && METADATA_JOINED_BYTES_MAX < FRAME_BYTES_MAX);
};

/// Bytes of rows that one listing keeps waiting, all parts together: what a slow client may cost. In rings of more than
/// some ten thousand partitions the smallest page of each part comes to more.
pub const LISTING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one page of a listing: some thousand rows, a millisecond of a scan.
pub const LISTING_PAGE_BYTES_MAX: u32 = 64 * 1024;
/// Fewest bytes for which a page is asked: below this the asking costs more than the rows.
pub const LISTING_PAGE_BYTES_MIN: u32 = 512;
/// Rows of one page of a listing.
pub const LISTING_PAGE_ROWS_MAX: u32 = 2000;
/// Keys that a page looks at, rows or not: a page is asked with a deadline of seconds, and each look may be a seek on
/// a disk.
pub const LISTING_PAGE_LOOKS_MAX: usize = 4000;
/// Pages of one listing that one node works on at a time: a large ring is not asked all at once, and other work finds
/// room on the pool.
pub const LISTING_PAGES_PER_NODE_MAX: usize = 8;

const _: () = {
    assert!(LISTING_PAGE_BYTES_MIN <= LISTING_PAGE_BYTES_MAX);
    assert!((LISTING_PAGE_BYTES_MAX as usize) < FRAME_BYTES_MAX);
};

/// Changes of items that one turn may name: as many as the rows it may remove many times over. With more of them the
/// vnode's trees are built anew.
pub const TURN_CHANGES_MAX: usize = 65_536;
/// Ranges that one turn may name as changed: two for each user of a chat's expiry. With more it is everything.
pub const TURN_RANGES_MAX: usize = 4096;
/// Leaves of a tree: with a million items in it some 250 fall to each, which is what one difference costs to find.
pub const TREE_LEAVES: usize = 4096;
/// Memory that a vnode keeps between two items to encode them into: enough for most, little for a thousand vnodes.
pub const FINGERPRINT_SCRATCH_BYTES_MAX: usize = 4096;
/// Changes that a vnode gathers before it adds them to its trees: some three kilobytes.
pub const CHANGES_LATE_MAX: usize = 64;
/// Ranges that are gone through for one vnode's trees at a time. With more the trees are built anew, which is one scan.
pub const RANGES_OWED_MAX: usize = 16;
/// Items that one step of a scan on the pool goes through: some ten milliseconds.
pub const SCAN_STEP_ITEMS_MAX: usize = 5000;
/// Items that are gone through for one page of a listing: some fifty milliseconds of a pool thread.
pub const ENTRIES_VISITED_MAX: usize = 20_000;
/// Bytes of items that are gone through for one page of a listing, or in one step of a scan, where items are large:
/// some tens of milliseconds, too. One item alone may be larger.
pub const VISITED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Items of one page of a listing.
pub const ENTRIES_PAGE_MAX: usize = 4096;
/// Bytes of one page of a listing, unless it is a single item's.
pub const ENTRIES_PAGE_BYTES_MAX: usize = 256 * 1024;
/// Items of one batch of repairs: merged in one turn each, and committed together.
pub const REPAIR_BATCH_ITEMS_MAX: usize = 200;
/// Bytes of one batch of repairs, unless it is a single item: it shares a connection with requests.
pub const REPAIR_BATCH_BYTES_MAX: usize = 256 * 1024;
/// Items that one exchange sends in both directions; then the next pair has its turn.
pub const REPAIRS_EXCHANGE_MAX: u64 = 100_000;
/// Comparisons of replicas that one node may begin at a time: each may take a pool thread at both ends.
pub const REPAIR_EXCHANGES_MAX: usize = 16;
/// Trees whose roots one message may ask for: some 2 KB, and 5 KB in answer. Each that is full is 32 KiB to go through.
pub const SURVEY_TREES_MAX: usize = 256;
/// Shortest time between two comparisons of one pair, in milliseconds: each costs a message.
pub const REPAIR_INTERVAL_MS_MIN: u64 = 1000;
/// Longest: a day. Until then what differs is mended by reads alone.
pub const REPAIR_INTERVAL_MS_MAX: u64 = 86_400_000;

const _: () = {
    assert!(TREE_LEAVES == 4096);
    assert!(ENTRIES_PAGE_BYTES_MAX + STORE_KEY_BYTES_MAX < FRAME_BYTES_MAX);
    assert!(STORE_VALUE_BYTES_MAX + REPAIR_BATCH_BYTES_MAX < MESSAGE_BYTES_MAX);
    assert!(BATCH_BYTES_MAX < FRAME_BYTES_MAX && FRAME_BYTES_MAX < MESSAGE_BYTES_MAX);
    assert!(PART_BYTES < FRAME_BYTES_MAX && MESSAGE_BYTES_MAX <= PARTED_BYTES_MAX);
    assert!(PARTED_BYTES_MAX <= u32::MAX as usize && DECODED_BYTES_MAX < MESSAGE_BYTES_MAX);
    assert!(STORE_VALUE_BYTES_MAX + STORE_KEY_BYTES_MAX + BATCH_BYTES_MAX < MESSAGE_BYTES_MAX);
    assert!(RING_SIZE_MIN.is_power_of_two() && RING_SIZE_MAX.is_power_of_two());
    assert!(RING_SIZE_DEFAULT >= RING_SIZE_MIN && RING_SIZE_DEFAULT <= RING_SIZE_MAX);
    assert!(RING_SIZE_MAX - 1 <= u16::MAX as u32);
    assert!(HANDOFF_LIMIT_DEFAULT >= 1 && HANDOFF_LIMIT_DEFAULT <= HANDOFF_LIMIT_MAX);
    assert!(N_VAL_DEFAULT <= N_VAL_MAX && N_VAL_MAX as u32 >= 1);
    assert!(2 * ROUTING_KEY_BYTES_MAX < STORE_KEY_BYTES_MAX);
    assert!(STORE_VALUE_BYTES_MAX < MESSAGE_BYTES_MAX);
    assert!(NODE_NAME_BYTES_MAX + REASON_BYTES_MAX < HANDSHAKE_BYTES_MAX);
};
