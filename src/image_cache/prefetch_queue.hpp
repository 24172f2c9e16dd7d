// What is to be fetched without a reader, in memory: the markers in queue/ are what lasts, this is who is next. First
// in, first out; one that failed comes after those that did not, and not before its time.
//
// Not thread-safe: the cache holds its mutex. Cost O(log n).
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/request_context.hpp"
#include "image_cache/fill.hpp"
#include "image_cache/found_files.hpp"

namespace imagecache::image_cache {

class PrefetchQueue {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Item {
    double since = 0;  ///< the marker's mtime
    Time not_before{};
    unsigned failures = 0;
    bool running = false;
    bool cancelled = false;
    std::string last_error;
    base::RequestContext context;  ///< who queued it; used where the service has no credentials of its own
    std::shared_ptr<Fill> fill;    ///< while it runs; shared with the cache
    std::uint64_t addition = 0;    ///< the latest of it
  };

  /// Makes it known; one that is known stays where it is in the line.
  void add(const std::string& id, double since, base::RequestContext context) {
    ++additions_;
    if (auto* known = find(id)) {
      known->addition = additions_;
      return;
    }
    items_[id] = {.since = since, .context = std::move(context), .addition = additions_};
    line_.insert(place(id));
  }
  /// How many there have been; to be asked before the markers are looked for.
  std::uint64_t additions() const { return additions_; }
  /// Holds the line against the markers that were there. What was added after `additions` has its marker since.
  void merge(const std::vector<FoundFile>& markers, const base::RequestContext& context, std::uint64_t additions) {
    std::set<std::string> there;
    for (const auto& marker : markers) {
      there.insert(marker.name);
      add(marker.name, marker.mtime, context);
    }
    std::vector<std::string> gone;
    for (const auto& [id, item] : items_) {
      if (!item.running && item.addition <= additions && !there.contains(id)) gone.push_back(id);
    }
    for (const auto& id : gone) erase(id);
  }
  Item* find(const std::string& id) {
    const auto found = items_.find(id);
    return found == items_.end() ? nullptr : &found->second;
  }
  bool erase(const std::string& id) {
    const auto found = items_.find(id);
    if (found == items_.end()) return false;
    line_.erase(place(id));
    items_.erase(found);
    return true;
  }
  /// The first whose time has come, which runs from now on; else nullopt.
  std::optional<std::string> take(Time now) {
    for (auto next = line_.begin(); next != line_.end(); ++next) {
      std::string id = std::get<2>(*next);
      Item& item = items_[id];
      if (item.not_before > now) continue;
      item.running = true;
      line_.erase(next);
      ++running_;
      return id;
    }
    return std::nullopt;
  }
  /// It has ended; `again_at`: it takes its place in the line again.
  void end(const std::string& id, std::optional<Time> again_at) {
    --running_;
    Item& item = items_[id];
    item.running = false;
    item.fill.reset();
    if (!again_at) {
      items_.erase(id);
      return;
    }
    item.not_before = *again_at;
    line_.insert(place(id));
  }
  std::size_t running() const { return running_; }
  std::size_t size() const { return items_.size(); }
  /// When the next of those that wait for a time may be taken; nullopt if none waits.
  std::optional<Time> next() const {
    std::optional<Time> first;
    for (const auto& [failures, since, id] : line_) {
      const Time at = items_.at(id).not_before;
      if (!first || at < *first) first = at;
    }
    return first;
  }

 private:
  using Place = std::tuple<unsigned, double, std::string>;
  Place place(const std::string& id) const {
    const Item& item = items_.at(id);
    return {item.failures, item.since, id};
  }

  std::map<std::string, Item> items_;
  std::set<Place> line_;  // of those that do not run
  std::size_t running_ = 0;
  std::uint64_t additions_ = 0;
};

}  // namespace imagecache::image_cache
