// The complete files as they are known in memory, who of them goes next, and the room that is spoken for. What serving
// a hit needs is here, so that a hit asks no database; what changed since the last flush is gathered here, so that it
// writes none either. A million entries cost some 220 bytes each and no call but load() and ids() more than O(log n).
//
// Not thread-safe: the cache holds its mutex.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/fd.hpp"
#include "image_cache/eviction.hpp"
#include "image_cache/index.hpp"
#include "image_cache/ledger.hpp"
#include "image_cache/slot_index.hpp"
#include "image_cache/slot_lists.hpp"

namespace imagecache::image_cache {

/// A published file, open for reading at any offset: shared by the entry and the readers, of whom any may be the last.
using OpenFile = std::shared_ptr<const base::Fd>;

/// A Verified or none, in the room of a pointer: most files that are stored are not used for weeks. With it, the file
/// itself while it is asked for again and again.
class MaybeVerified {
 public:
  MaybeVerified() = default;
  MaybeVerified(Verified verified) : known_(std::make_unique<Known>(std::move(verified))) {}
  MaybeVerified(const MaybeVerified& other) : known_(other.known_ ? std::make_unique<Known>(*other.known_) : nullptr) {}
  MaybeVerified(MaybeVerified&&) noexcept = default;
  MaybeVerified& operator=(MaybeVerified other) noexcept {
    known_ = std::move(other.known_);
    return *this;
  }
  ~MaybeVerified() = default;
  explicit operator bool() const { return known_ != nullptr; }
  const Verified* operator->() const { return &known_->verified; }
  Verified* operator->() { return &known_->verified; }
  /// Lets go of the file, if it was left open.
  void close() {
    if (known_) known_->file = nullptr;
  }
  operator std::optional<Verified>() const { return known_ ? std::optional(known_->verified) : std::nullopt; }

 private:
  friend class Entries;
  struct Known {
    explicit Known(Verified what) : verified(std::move(what)) {}
    Verified verified;
    OpenFile file{};
    bool file_is_used = false;
  };
  std::unique_ptr<Known> known_;
};

struct Entry {
  std::uint64_t size_bytes = 0;
  std::uint64_t hits = 0;
  double last_accessed = 0;
  double last_modified = 0;
  /// Absent: ask the ledger before the first use (it is not read at start), and verify what it does not know either.
  MaybeVerified verified;
  float fetch_seconds = 0;  ///< 0: not known
  bool pinned = false;      ///< Entries' own: what put() is given is ignored
  bool held = false;        ///< likewise
  Slot slot = 0;            ///< likewise
  /// It is no victim, and never too long unused.
  bool stays() const { return pinned || held; }
};

/// What a flush has to write.
struct Changes {
  std::vector<IndexRow> puts;
  std::vector<std::string> removals;
  std::vector<IndexHits> hits;
  bool empty() const { return puts.empty() && removals.empty() && hits.empty(); }
};

enum class EvictionReason { size, floor, ttl };

class Entries {
 public:
  Entries();  ///< evicts by lru until use() says otherwise

  /// Before the first put().
  void use(std::unique_ptr<EvictionPolicy> policy) { policy_ = std::move(policy); }
  /// What a start finds: rows with their files, sorted by id, each id once. Before the first put().
  void load(std::vector<IndexRow> rows);
  /// Makes one of what a load has found, here, and of `live`, which has answered requests meanwhile: what was put,
  /// removed, pinned or used there counts. Nothing of `live` has been written to the index since the load began. Costs
  /// as much as `live` holds, not more.
  void take_over(Entries live);
  /// A row whose file is gone.
  void remove_row(const std::string& id) { to_remove_.insert(id); }

  /// `has_row`: the row is in the index already.
  void put(const std::string& id, Entry entry, bool has_row);
  const Entry* find(std::string_view id) const;
  void set_verified(const std::string& id, std::optional<Verified> verified);
  /// The file was found to be of another size than its row said.
  void set_size(const std::string& id, std::uint64_t size_bytes);
  /// The same file under another stamp. Nothing happens where it was not known under the former.
  void restamp(const Restamped& moved);
  /// The file, if an earlier hit left it open; null else. It may have been changed or unlinked since: its status tells.
  OpenFile open_file(std::string_view id);
  /// Leaves the file of a hit open for the next one, if it is still what the entry says and not too many are. It is
  /// closed with the entry, so that what is evicted gives its room back.
  void keep_open(std::string_view id, const Stamp& stamp, const OpenFile& file);
  /// Takes away the files that nobody has asked for since the last call; the caller lets go of them, with no lock held.
  std::vector<OpenFile> take_idle_files();
  /// Somebody removed it, or it is not to be trusted. False: it was not there.
  bool erase(const std::string& id) { return erase(id, false); }
  /// As erase(), of what the cache itself has chosen to go; remembered for a while.
  bool evict(const std::string& id, EvictionReason reason);
  /// Why it went, if it was evicted not long ago and is now being fetched again; asked once.
  std::optional<EvictionReason> take_eviction(const std::string& id);
  void touch(const std::string& id, double now);

  /// What the index says of an entry now, another program's hits and times included.
  void follow(const IndexRow& row);
  /// Another program removed the file and its row.
  void lose(const std::string& id);
  /// Another program removed the row and left the file: it is written again with the next flush.
  void write_row_again(const std::string& id) { to_put_.insert(id); }
  /// The row is yet to be written, or to be removed: the index does not tell.
  bool is_unwritten(const std::string& id) const { return to_put_.contains(id) || to_remove_.contains(id); }

  /// A pinned image is never a victim nor unused, cached or not. One that is unpinned counts as used just now.
  void pin(const std::string& id);
  void unpin(const std::string& id);
  bool is_pinned(std::string_view id) const { return pins_.contains(id); }
  std::vector<std::string> pinned() const { return {pins_.begin(), pins_.end()}; }
  std::size_t pinned_files() const { return pinned_files_; }
  /// An image whose file has another name that outlives this one: its eviction would free nothing. Counted: the first
  /// hold() and the last let_go() matter.
  void hold(const std::string& id);
  void let_go(const std::string& id);
  /// Of the files that are pinned or held; part of bytes().
  std::uint64_t staying_bytes() const { return staying_bytes_; }

  std::uint64_t bytes() const { return bytes_; }
  std::size_t count() const { return entries_.size(); }
  std::vector<std::string> ids() const;  ///< sorted
  /// Calls `use(id, entry)` for at most `limit` entries, from the first id greater than `marker` on. `use` changes
  /// nothing here.
  template <class Use>
  void for_each_after(std::string_view marker, std::size_t limit, Use use) const {
    for (auto it = entries_.upper_bound(marker); it != entries_.end() && limit > 0; ++it, --limit) {
      use(it->first, it->second);
    }
  }

  std::uint64_t reserved_bytes() const { return reserved_; }
  void reserve(std::uint64_t bytes) { reserved_ += bytes; }
  void release(std::uint64_t bytes) { reserved_ -= bytes; }

  /// The next to go, by the policy.
  std::optional<std::string> victim();
  /// The least recently used, if that was before `time`.
  std::optional<std::string> unused_since(double time) const;

  Changes take_changes();
  /// After a flush that failed: they are written next time.
  void put_back(Changes changes);
  /// After the index was lost: every row is written with the next flush.
  void put_all_again();

 private:
  using Map = std::map<std::string, Entry, std::less<>>;
  /// The id's place, or null: as entries_.find(), without the walk down the tree.
  const Map::iterator* place_of(std::string_view id) const;
  Entry* entry_of(std::string_view id);
  Slot free_slot();
  void enter(Map::iterator place, Slot slot);
  void join_lines(const Map::value_type& item);
  /// After `pinned` or `held` of it may have changed.
  void settle(const std::string& id);
  void leave_lines(Slot slot, bool evicted);
  bool erase(const std::string& id, bool evicted);
  void was_used(const Entry& entry);
  void take_over(const Entries& live, Map::value_type& item);

  Map entries_;  // by id, for pages
  SlotIndex slots_;
  std::vector<Map::iterator> by_slot_;
  std::vector<Slot> free_slots_;
  SlotLists<1> by_last_use_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::set<std::string, std::less<>> pins_;
  std::map<std::string, unsigned, std::less<>> holds_;
  std::size_t pinned_files_ = 0;
  std::uint64_t staying_bytes_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t reserved_ = 0;

  std::vector<std::string> open_;  // whose files were left open; some have gone since, perhaps

  std::map<std::string, IndexHits> hits_;
  std::set<std::string> to_put_;
  std::set<std::string> to_remove_;

  std::unordered_map<std::string, EvictionReason> evicted_;
  std::deque<std::string> evicted_in_order_;
};

}  // namespace imagecache::image_cache
