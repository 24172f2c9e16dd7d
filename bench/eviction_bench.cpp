// Which eviction policy? Plays traces of image reads through the real policies, and through a Bélády that knows the
// future, at several sizes of the cache. Nothing is stored and no time passes.
//
//   eviction_bench                            generated traces, five seeds
//   eviction_bench FILE.csv                   libCacheSim's csv, with a header that names time, size and lbn or obj_id
//   eviction_bench FILE.txt [BYTES_AN_OBJECT] libCacheSim's txt, an object a line
//
// A request is a miss when its image is not there; it is then fetched and kept, and others go to make room. What is
// told: the part of requests that miss, the part of bytes that miss, and the hours that fetching takes.
// docs/eviction.md discusses the outcome.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#include "image_cache/eviction.hpp"

namespace {

using imagecache::image_cache::EvictionPolicy;
using imagecache::image_cache::make_eviction_policy;
using imagecache::image_cache::Slot;

struct Request {
  std::uint64_t id = 0;
  std::uint64_t size_bytes = 0;
  double fetch_seconds = 0;
};
using Trace = std::vector<Request>;

struct Outcome {
  double requests = 0, bytes = 0, missed_requests = 0, missed_bytes = 0, fetch_seconds = 0;
  void add(const Request& request, bool hit) {
    ++requests;
    bytes += static_cast<double>(request.size_bytes);
    if (hit) return;
    ++missed_requests;
    missed_bytes += static_cast<double>(request.size_bytes);
    fetch_seconds += request.fetch_seconds;
  }
};

// --- generated traces -----------------------------------------------------------------------------------------------

/// What a cloud's image service sees: a catalogue in which few images are popular, each of them replaced by a newer one
/// now and then, deployments that ask for one image many times within minutes, and snapshots that are read once.
struct Mix {
  const char* name;
  std::size_t images;             // in the catalogue at a time
  double zipf;                    // popularity of rank r is r^-zipf
  double replaced_a_week;         // of the catalogue
  double snapshots;               // of the reads that are not part of a deployment
  double deployments;             // likewise
  double size_median_gib, sigma;  // log-normal
};

constexpr Mix mixes[] = {
    {"public cloud", 400, 0.9, 0.10, 0.20, 0.03, 1.5, 1.0},
    {"snapshots and backups", 150, 0.8, 0.05, 0.55, 0.01, 4.0, 1.3},
    {"CI, images built daily", 60, 0.7, 0.90, 0.10, 0.10, 3.0, 0.7},
};
constexpr int weeks = 26;
constexpr int reads_a_week = 4000;

class Generator {
 public:
  Generator(const Mix& mix, unsigned seed) : mix_(mix), random_(seed) {
    double sum = 0;
    for (std::size_t rank = 0; rank < mix.images; ++rank) {
      catalogue_.push_back(new_image());
      sum += std::pow(static_cast<double>(rank + 1), -mix.zipf);
      cumulative_.push_back(sum);
    }
  }
  /// Bytes of the catalogue, to which the cache's size is held.
  double catalogue_bytes() const {
    double sum = 0;
    for (const auto& image : catalogue_) sum += static_cast<double>(image.size_bytes);
    return sum;
  }
  Trace make() {
    Trace trace;
    std::vector<std::pair<Request, int>> deploying;  // and how often it is still to be read
    const auto replaced = static_cast<int>(mix_.replaced_a_week * static_cast<double>(mix_.images));
    for (int read = 0; read < weeks * reads_a_week; ++read) {
      // Through the week, not all at once on Sunday.
      if (replaced > 0 && read % std::max(1, reads_a_week / replaced) == 0) {
        catalogue_[std::uniform_int_distribution<std::size_t>(0, mix_.images - 1)(random_)] = new_image();
      }
      if (!deploying.empty() && chance(0.5)) {
        auto& [image, left] = deploying[std::uniform_int_distribution<std::size_t>(0, deploying.size() - 1)(random_)];
        trace.push_back(image);
        if (--left == 0) std::erase_if(deploying, [](const auto& one) { return one.second == 0; });
      } else if (const double what = uniform(); what < mix_.snapshots) {
        const Request snapshot = new_image();
        trace.push_back(snapshot);
        if (chance(0.15)) deploying.emplace_back(snapshot, 1);  // read once more, to see whether it can be restored
      } else if (what < mix_.snapshots + mix_.deployments) {
        deploying.emplace_back(popular(), std::uniform_int_distribution<int>(3, 60)(random_));
      } else {
        trace.push_back(popular());
      }
    }
    return trace;
  }

 private:
  double uniform() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  bool chance(double part) { return uniform() < part; }
  Request popular() {
    const double point = uniform() * cumulative_.back();
    return catalogue_[static_cast<std::size_t>(std::ranges::lower_bound(cumulative_, point) - cumulative_.begin())];
  }
  Request new_image() {
    const double gib = mix_.size_median_gib * std::exp(mix_.sigma * std::normal_distribution<double>()(random_));
    const double bytes = std::clamp(gib, 0.01, 200.0) * 1073741824.0;
    const double bytes_per_s = chance(0.2) ? 40e6 : 300e6;  // some stores are slow
    return {
        .id = ++last_id_, .size_bytes = static_cast<std::uint64_t>(bytes), .fetch_seconds = 0.5 + bytes / bytes_per_s};
  }

  const Mix& mix_;
  std::mt19937_64 random_;
  std::uint64_t last_id_ = 0;
  std::vector<Request> catalogue_;
  std::vector<double> cumulative_;
};

// --- libCacheSim's formats -------------------------------------------------------------------------------------------

std::vector<std::string> fields(const std::string& line) {
  std::vector<std::string> all;
  std::istringstream in(line);
  for (std::string field; std::getline(in, field, ',');) all.push_back(field);
  return all;
}

Trace import(const std::string& path, std::uint64_t bytes_an_object) {
  std::ifstream in(path);
  if (!in) {
    std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
    std::exit(1);
  }
  Trace trace;
  std::string line;
  std::size_t id_column = 0, size_column = SIZE_MAX;
  if (path.ends_with(".csv")) {
    std::getline(in, line);
    const auto names = fields(line);
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (names[i] == "lbn" || names[i] == "obj_id" || names[i] == "id") id_column = i;
      if (names[i] == "size" || names[i] == "obj_size") size_column = i;
    }
  }
  while (std::getline(in, line)) {
    const auto values = fields(line);
    if (values.size() <= id_column) continue;
    Request request{.id = std::hash<std::string>{}(values[id_column]), .size_bytes = bytes_an_object};
    if (size_column < values.size()) request.size_bytes = std::strtoull(values[size_column].c_str(), nullptr, 10);
    if (request.size_bytes == 0) continue;
    request.fetch_seconds = 0.005 + static_cast<double>(request.size_bytes) / 200e6;
    trace.push_back(request);
  }
  return trace;
}

// --- players ---------------------------------------------------------------------------------------------------------

Outcome play(const Trace& trace, const char* policy_name, std::uint64_t capacity) {
  const auto policy = make_eviction_policy(policy_name, capacity).value();
  std::unordered_map<std::uint64_t, Slot> slots;
  std::vector<Request> stored;
  std::vector<Slot> free_slots;
  std::uint64_t used = 0;
  Outcome outcome;
  for (const auto& request : trace) {
    const auto found = slots.find(request.id);
    // The same object in another size, as block traces have it, is counted as it was stored.
    outcome.add(request, found != slots.end());
    if (found != slots.end()) {
      policy->touch(found->second);
      continue;
    }
    if (request.size_bytes > capacity) continue;
    while (used + request.size_bytes > capacity) {
      const Slot victim = policy->victim().value();
      policy->erase(victim, true);
      used -= stored[victim].size_bytes;
      slots.erase(stored[victim].id);
      free_slots.push_back(victim);
    }
    Slot slot = static_cast<Slot>(stored.size());
    if (free_slots.empty()) {
      stored.push_back(request);
    } else {
      slot = free_slots.back();
      free_slots.pop_back();
      stored[slot] = request;
    }
    slots[request.id] = slot;
    used += request.size_bytes;
    policy->insert(slot, std::to_string(request.id),
                   {.size_bytes = request.size_bytes, .fetch_seconds = request.fetch_seconds, .uses = 0});
  }
  return outcome;
}

/// Evicts what costs most room until its next use: bytes × requests until then. Not the best that can be, which nobody
/// can compute for sizes that differ, but what the literature holds policies against.
Outcome play_belady(const Trace& trace, std::uint64_t capacity) {
  std::vector<std::size_t> next(trace.size());
  std::unordered_map<std::uint64_t, std::size_t> later;
  for (std::size_t i = trace.size(); i-- > 0;) {
    const auto found = later.find(trace[i].id);
    next[i] = found == later.end() ? SIZE_MAX : found->second;
    later[trace[i].id] = i;
  }
  std::unordered_map<std::uint64_t, std::pair<std::size_t, std::uint64_t>> stored;  // next use, size
  std::uint64_t used = 0;
  Outcome outcome;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    const auto found = stored.find(trace[i].id);
    outcome.add(trace[i], found != stored.end());
    if (found != stored.end()) {
      found->second.first = next[i];
      continue;
    }
    if (trace[i].size_bytes > capacity || next[i] == SIZE_MAX) continue;
    while (used + trace[i].size_bytes > capacity) {
      const auto victim = std::ranges::max_element(stored, {}, [&](const auto& item) {
        const auto [use, size] = item.second;
        return use == SIZE_MAX ? 1e300 : static_cast<double>(use - i) * static_cast<double>(size);
      });
      used -= victim->second.second;
      stored.erase(victim);
    }
    stored[trace[i].id] = {next[i], trace[i].size_bytes};
    used += trace[i].size_bytes;
  }
  return outcome;
}

/// A line for each policy: the parts of its sums over all traces, and of lru's bytes.
void compare(const char* title, const std::vector<std::pair<Trace, double>>& traces, double share) {
  double lru_bytes = 0;
  for (const char* policy : {"lru", "s3fifo", "gdsf", "belady-size"}) {
    Outcome sum;
    for (const auto& [trace, whole] : traces) {
      const auto capacity = static_cast<std::uint64_t>(whole * share);
      const Outcome one = policy[0] == 'b' ? play_belady(trace, capacity) : play(trace, policy, capacity);
      sum.requests += one.requests;
      sum.bytes += one.bytes;
      sum.missed_requests += one.missed_requests;
      sum.missed_bytes += one.missed_bytes;
      sum.fetch_seconds += one.fetch_seconds;
    }
    if (lru_bytes == 0) lru_bytes = sum.missed_bytes;
    std::printf("| %s | %.0f %% | %s | %.3f | %.3f | %.2f | %.0f |\n", title, share * 100, policy,
                sum.missed_requests / sum.requests, sum.missed_bytes / sum.bytes, sum.missed_bytes / lru_bytes,
                sum.fetch_seconds / 3600 / static_cast<double>(traces.size()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::printf(
      "| trace | cache | policy | request misses | byte misses | ÷ lru | fetch hours |\n"
      "|---|---|---|---|---|---|---|\n");
  if (argc > 1) {
    const auto trace = import(argv[1], argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
    std::unordered_map<std::uint64_t, std::uint64_t> sizes;
    for (const auto& request : trace) sizes[request.id] = request.size_bytes;
    double whole = 0;
    for (const auto& [id, size] : sizes) whole += static_cast<double>(size);
    for (const double share : {0.01, 0.05, 0.1, 0.25}) compare("imported", {{trace, whole}}, share);
    return 0;
  }
  for (const auto& mix : mixes) {
    std::vector<std::pair<Trace, double>> traces;
    for (unsigned seed = 1; seed <= 5; ++seed) {
      Generator generator(mix, seed);
      const double whole = generator.catalogue_bytes();
      traces.emplace_back(generator.make(), whole);
    }
    for (const double share : {0.1, 0.25, 0.5}) compare(mix.name, traces, share);
  }
  return 0;
}
