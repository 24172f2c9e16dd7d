// Another program on the same directory: a glance-api, or one of its tools. What it does to the index is taken up here;
// what it does to files shows when they are opened.

#include <sys/stat.h>

#include <algorithm>

#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

Result<void> ImageCache::Impl::follow_others() {
  std::vector<IndexRow> strange;
  std::vector<std::string> missing;
  {
    // No flush between the look at the rows and the look at the entries: what is unwritten stays so.
    const std::lock_guard one_at_a_time(flush_mutex);
    IMAGECACHE_TRY(const bool changed, index->changed_by_others());
    if (!changed) return {};
    Reading reading(stop_source.get_token());
    IMAGECACHE_TRY(std::vector<IndexRow> rows, index->rows(reading));
    std::ranges::sort(rows, {}, &IndexRow::image_id);
    const std::lock_guard lock(mutex);
    auto row = rows.begin();
    const auto pass_rows_before = [&](std::string_view id) {
      for (; row != rows.end() && row->image_id < id; ++row) {
        if (base::is_uuid(row->image_id) && !entries.is_unwritten(row->image_id)) strange.push_back(*row);
      }
    };
    std::vector<const IndexRow*> known;
    entries.for_each_after("", entries.count(), [&](const std::string& id, const Entry&) {
      pass_rows_before(id);
      if (row != rows.end() && row->image_id == id) {
        known.push_back(&*row++);
      } else if (!entries.is_unwritten(id)) {
        missing.push_back(id);
      }
    });
    for (; row != rows.end(); ++row) {
      if (base::is_uuid(row->image_id) && !entries.is_unwritten(row->image_id)) strange.push_back(*row);
    }
    for (const IndexRow* one : known) {
      if (!entries.is_unwritten(one->image_id)) entries.follow(*one);
    }
  }
  return take_up(std::move(strange), missing);
}

Result<void> ImageCache::Impl::take_up(std::vector<IndexRow> strange, const std::vector<std::string>& missing) {
  for (const auto& id : missing) {
    const auto hold = id_locks.hold(id);
    struct stat status{};
    const bool gone = ::lstat(layout.file(id).c_str(), &status) != 0 && errno == ENOENT;
    OpenFile last;  // closed without the mutex: it frees the blocks of what was unlinked
    const std::lock_guard lock(mutex);
    if (!entries.find(id)) continue;
    last = entries.open_file(id);
    if (gone) {
      entries.lose(id);
    } else {
      entries.write_row_again(id);
    }
    update_gauges();
  }
  for (const auto& row : strange) {
    const auto hold = id_locks.hold(row.image_id);
    struct stat status{};
    // A row whose file is not there (yet, or any more) is its maker's business.
    if (::lstat(layout.file(row.image_id).c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    const std::lock_guard lock(mutex);
    if (entries.find(row.image_id) || fills.contains(row.image_id)) continue;
    entries.put(row.image_id,
                {.size_bytes = static_cast<std::uint64_t>(status.st_size),
                 .hits = row.hits,
                 .last_accessed = row.last_accessed,
                 .last_modified = row.last_modified,
                 .verified = {}},
                true);
    update_gauges();
  }
  return {};
}

base::Task<Result<void>> ImageCache::refresh() {
  IMAGECACHE_CO_CHECK(co_await wait_loaded());
  auto work = [this] { return impl_->follow_others(); };
  co_return co_await base::offload(impl_->pool, work);
}

}  // namespace imagecache::image_cache
