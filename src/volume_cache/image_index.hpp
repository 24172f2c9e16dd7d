// The image-volumes of all backends as the process knows them, kept in step with the catalog: which content is there,
// who is cloning from it now, what was used last. The hit path asks this and no database.
//
// Any thread; nothing here blocks. Every method is one step that nothing comes between.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/task.hpp"
#include "catalog/catalog.hpp"

namespace imagecache::volume_cache {

/// What Cinder calls host@backend#pool: an image-volume is found, and limits hold, within one. A pool without a name is
/// the only one that a backend has.
inline std::string place_of(const std::string& backend, const std::string& pool) {
  return backend + "#" + pool;
}

/// One image-volume. Shared by the index, the clones in flight and the task that evicts it.
struct Base {
  // Constant.
  std::string volume_id;
  std::string name;  ///< on the backend
  std::string backend;
  std::string pool;  ///< of the backend; empty where it has one only
  std::string volume_type;
  std::string content_key;
  std::string image_id;
  std::uint64_t size_gb = 0;
  std::uint64_t virtual_size_bytes = 0;
  bool is_repair = false;       ///< made in place of one that was bad
  std::uint64_t build_ms = 0;   ///< how long it took; 0: not known
  std::string image_content{};  ///< origin::ImageInfo::content_key()
  std::string held_file{};      ///< image_cache::ImageCache::hold(), that it was imported from and may be read from

  /// Notified when the last clone in flight has ended.
  base::Signal idle;

  // Protected by the index.
  enum class State { ready, evicting, stuck, gone };  // stuck: eviction failed, it takes space and is not cloned
  State state = State::ready;
  bool pinned = false;
  // While copying or source_kept it is not to be evicted. bad: its image file is, so its import is not to be ended.
  enum class Import { none, copying, source_kept, bad };
  Import import = Import::none;
  unsigned users = 0;
  std::uint64_t clones = 0;  ///< ever
  std::uint64_t living_clones = 0;
  base::WallTime last_used{};
  struct Unwritten {
    std::uint64_t clones = 0;
    std::uint64_t saved_ms = 0;
  };
  std::map<std::pair<std::string, std::string>, Unwritten> unwritten;  ///< by image and project

  std::string place() const { return place_of(backend, pool); }
};
using BasePtr = std::shared_ptr<Base>;

struct Limits {
  std::uint64_t max_count = 0;    ///< 0: no limit
  std::uint64_t max_size_gb = 0;  ///< 0: no limit
  unsigned percent = 100;         ///< of both is what may be taken

  bool hold(std::uint64_t count, std::uint64_t size_gb) const {
    return (max_count == 0 || count * 100 <= max_count * percent) &&
           (max_size_gb == 0 || size_gb * 100 <= max_size_gb * percent);
  }
};

class ImageIndex {
 public:
  /// One that is ready, with `users` clones in flight already; takes over the room that was reserved for it, if
  /// `reserved`.
  void add(const BasePtr& image_volume, unsigned users, bool reserved);
  /// One that exists, cannot be used and could not be deleted yet.
  void add_stuck(const BasePtr& image_volume, bool reserved);

  /// The ready one with that content, with one user more; null if there is none.
  BasePtr use(const std::string& place, const std::string& content_key);
  /// A clone that came of a use.
  struct Cloned {
    base::WallTime at;
    std::string image_id;
    std::string project_id;
    std::uint64_t saved_ms = 0;
  };
  /// Ends a use. With a clone it is then the most recently used.
  void release(const BasePtr& image_volume, const Cloned* cloned);
  /// At start: a clone of this one lives.
  void clone_is_there(const std::string& source_volume_id);
  /// A clone of this one, whoever it is, is deleted. Nothing happens where nobody knows the source any more.
  void clone_is_gone(const std::string& source_volume_id);
  unsigned users(const BasePtr& image_volume) const;
  /// As many as were ever made.
  std::uint64_t clones(const BasePtr& image_volume) const;
  /// Those that live, with those that are being made.
  std::uint64_t living_clones(const BasePtr& image_volume) const;

  /// In any state but gone.
  BasePtr find(const std::string& place, const std::string& content_key) const;
  BasePtr find_by_id(const std::string& volume_id) const;

  /// Makes room for one more of `size_gb` by marking the least recently used as evicting, no more than needed. What is
  /// returned is the caller's to evict. Null pointer of a vector: it cannot fit, nothing is changed. The room is held
  /// until add() or unreserve(). Without `may_evict` it fits only into room that is free.
  std::unique_ptr<std::vector<BasePtr>> reserve(const std::string& place, std::uint64_t size_gb, const Limits& limits,
                                                bool may_evict = true);
  void unreserve(const std::string& place, std::uint64_t size_gb);
  /// Marks the least recently used as evicting, one after the other, until `enough` (called with each that is taken)
  /// says so; none if it never does. All places where `place` is empty. `idle_only` passes over those with a clone
  /// in flight, so that who holds a use may evict others without waiting for somebody who waits for him.
  std::vector<BasePtr> take_oldest(const std::string& place, const std::function<bool(const Base&)>& enough,
                                   bool idle_only = false);

  /// What one limit needs: only those that help it count, until it is met.
  struct Need {
    std::function<bool(const Base&)> helps;
    std::function<bool()> is_met;
  };
  /// Marks as evicting, of all places, the least recently used of those that help, for one need after the other and
  /// until each is met; none if one cannot be. `taken` is called with each, whichever need it is taken for.
  std::vector<BasePtr> take_for(const std::vector<Need>& needs, const std::function<void(const Base&)>& taken);

  /// Marks as evicting those that are not pinned or being imported, that nobody is cloning from and that `wanted` is
  /// true of; it is asked of the least recently used first.
  std::vector<BasePtr> take_idle(const std::string& place, const std::function<bool(const Base&)>& wanted);
  /// Those that can be cloned.
  std::vector<BasePtr> ready() const;
  struct Taken {
    std::uint64_t count = 0, size_gb = 0;
  };
  /// By what is there or is being built, without what is about to go.
  Taken taken(const std::string& place) const;
  /// The pools of a backend in which there is or was an image-volume, and the one without a name.
  std::set<std::string> pools(const std::string& backend) const;

  /// Marks it as evicting if it can be cloned, is not pinned and nobody is cloning from it; else false.
  bool mark_idle(const BasePtr& image_volume);
  /// False if it is being evicted already, or gone, or must not go: clients read its image file.
  bool mark_evicting(const BasePtr& image_volume);
  void mark_stuck(const BasePtr& image_volume);
  /// Its import is bad: it is stuck from now on.
  void mark_bad(const BasePtr& image_volume);
  void mark_gone(const BasePtr& image_volume);
  Base::State state(const BasePtr& image_volume) const;
  void set_pinned(const BasePtr& image_volume, bool pinned);
  void set_import(const BasePtr& image_volume, Base::Import import);
  Base::Import import(const BasePtr& image_volume) const;

  /// What the catalog does not know yet; forgotten here. Put back what could not be written.
  std::vector<catalog::Catalog::Use> take_uses();
  void put_back(const std::vector<catalog::Catalog::Use>& uses);

 private:
  struct PerPlace {
    std::map<std::string, BasePtr> by_content;
    std::list<BasePtr> by_use;  // ready and not pinned, least recently used first
    std::map<const Base*, std::list<BasePtr>::iterator> listed;
    std::uint64_t count = 0, size_gb = 0;                    // of all that takes or will take space
    std::uint64_t evicting_count = 0, evicting_size_gb = 0;  // of these, what is about to go
  };

  void insert(const BasePtr& image_volume, bool reserved);
  /// Shows those that may be taken, least recently used first, until `look` says true; false if it never does.
  bool look_at_oldest(const std::string& place, const std::function<bool(const BasePtr&)>& look) const;
  void enlist(PerPlace& at, const BasePtr& image_volume);
  void delist(PerPlace& at, const BasePtr& image_volume);
  void start_evicting(PerPlace& at, const BasePtr& image_volume);

  mutable std::mutex mutex_;
  // Protected by mutex_.
  std::map<std::string, PerPlace> places_;
  std::map<std::string, BasePtr> by_id_;
  std::map<std::string, BasePtr> used_;  // those with something unwritten, by id
};

}  // namespace imagecache::volume_cache
