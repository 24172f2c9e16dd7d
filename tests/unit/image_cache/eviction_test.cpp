#include "image_cache/eviction.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>
#include <random>
#include <set>
#include <string>

namespace imagecache::image_cache {
namespace {

/// A policy, and the names of the slots it was told of.
class Story {
 public:
  explicit Story(std::string_view policy, std::uint64_t capacity_bytes = 1000)
      : policy_(make_eviction_policy(policy, capacity_bytes).value()) {}

  void publish(char name, std::uint64_t size_bytes = 10, double fetch_seconds = 0, std::uint64_t uses = 0) {
    policy_->insert(slot(name), std::string(1, name),
                    {.size_bytes = size_bytes, .fetch_seconds = fetch_seconds, .uses = uses});
  }
  void read(char name, int times = 1) {
    for (int i = 0; i < times; ++i) policy_->touch(slot(name));
  }
  void remove(char name) { policy_->erase(slot(name), false); }
  char evict() {
    const auto victim = policy_->victim();
    if (!victim) return '-';
    EXPECT_EQ(policy_->victim(), victim) << "a victim stays until it is erased";
    policy_->erase(*victim, true);
    return static_cast<char>('a' + *victim);
  }
  std::string evict_all() {
    std::string order;
    for (char name = evict(); name != '-'; name = evict()) order += name;
    return order;
  }

 private:
  static Slot slot(char name) { return static_cast<Slot>(name - 'a'); }
  std::unique_ptr<EvictionPolicy> policy_;
};

TEST(Eviction, AnUnknownPolicyIsRefusedWithTheKnownOnes) {
  const auto policy = make_eviction_policy("fifo", 1);
  ASSERT_FALSE(policy);
  EXPECT_EQ(policy.error().code, Errc::invalid_argument);
  EXPECT_EQ(policy.error().message, "eviction_policy 'fifo': use lru, s3fifo or gdsf");
}

TEST(Eviction, NobodyGoesWhereNobodyIs) {
  for (const auto* name : {"lru", "s3fifo", "gdsf"}) {
    Story story(name);
    EXPECT_EQ(story.evict(), '-') << name;
    story.publish('a');
    story.remove('a');
    EXPECT_EQ(story.evict(), '-') << name;
    story.read('a');
    story.remove('a');
    EXPECT_EQ(story.evict(), '-') << name << ": a touch after the end brings nothing back";
  }
}

TEST(Lru, TheLeastRecentlyUsedGoesFirst) {
  Story story("lru");
  for (const char name : std::string("abcd")) story.publish(name);
  story.read('a');
  story.read('c');
  story.remove('b');
  EXPECT_EQ(story.evict_all(), "dac");
}

TEST(S3Fifo, ImagesThatNobodyReadsAgainLeaveBeforeThoseThatAreInUse) {
  Story story("s3fifo", 100);
  story.publish('a');
  story.publish('b');
  story.read('a', 2);
  story.read('b', 2);
  // A sweep of one-off snapshots, longer than the cache: with lru it would take a and b along.
  for (const char name : std::string("cdefghijklmn")) {
    story.publish(name);
    if (name >= 'h') EXPECT_EQ(story.evict(), name - 5);
  }
}

TEST(S3Fifo, WhatComesBackSoonAfterItLeftIsKept) {
  Story story("s3fifo", 100);
  for (const char name : std::string("abc")) story.publish(name);
  EXPECT_EQ(story.evict(), 'a');
  story.publish('a');  // remembered: it enters the main line
  for (const char name : std::string("def")) story.publish(name);
  EXPECT_EQ(story.evict(), 'b');
  EXPECT_EQ(story.evict(), 'c');
  EXPECT_EQ(story.evict(), 'd');
}

TEST(S3Fifo, WhatSomebodyRemovedIsNotRemembered) {
  Story story("s3fifo", 100);
  for (const char name : std::string("abc")) story.publish(name);
  story.remove('a');
  story.publish('a');
  EXPECT_EQ(story.evict_all(), "bca");
}

TEST(S3Fifo, TheSmallLineIsCountedInBytes) {
  Story story("s3fifo", 100);
  story.publish('m');
  story.read('m', 2);
  story.publish('a', 11);
  EXPECT_EQ(story.evict(), 'a') << "m moves on; a alone is more than a tenth";
  story.publish('b', 4);
  story.publish('c', 4);
  EXPECT_EQ(story.evict(), 'm') << "the small line is within its share, so the main line pays";
}

TEST(S3Fifo, WhatWasReadBeforeARestartEntersTheMainLine) {
  Story story("s3fifo", 100);
  story.publish('a', 10, 0, 7);
  story.publish('b', 20);
  EXPECT_EQ(story.evict_all(), "ba");
}

TEST(Gdsf, ABigImageGoesBeforeSmallOnesOfTheSameUse) {
  Story story("gdsf");
  story.publish('a', 1000, 1);
  story.publish('b', 100'000, 1);
  story.publish('c', 10, 1);
  EXPECT_EQ(story.evict_all(), "bac");
}

TEST(Gdsf, AnImageThatIsDearToFetchStays) {
  Story story("gdsf");
  story.publish('a', 1000, 60);
  story.publish('b', 1000, 1);
  EXPECT_EQ(story.evict_all(), "ba");
}

TEST(Gdsf, UsesCount) {
  Story story("gdsf");
  story.publish('a', 1000, 1);
  story.publish('b', 1000, 1);
  story.read('a', 3);
  EXPECT_EQ(story.evict_all(), "ba");
}

TEST(Gdsf, WhatWasPopularLongAgoIsOvertaken) {
  Story story("gdsf");
  story.publish('a', 1000, 1);
  story.read('a', 1000);
  int evicted_before = 0;
  for (;; ++evicted_before) {
    story.publish('b', 1000, 1);
    story.publish('c', 1000, 1);
    if (story.evict() == 'a' || story.evict() == 'a') break;
    ASSERT_LT(evicted_before, 100);
  }
  EXPECT_GT(evicted_before, 5);
}

TEST(Gdsf, TheElderGoesFirstAmongEquals) {
  Story story("gdsf");
  for (const char name : std::string("abc")) story.publish(name, 1000, 1);
  EXPECT_EQ(story.evict_all(), "abc");
}

// The same promises kept in the plainest way, to be held against.

struct NaiveFile {
  Slot slot = 0;
  std::uint64_t size_bytes = 0;
  double value = 0;
  double worth = 0;
  std::uint32_t uses = 0;
  std::uint64_t last_use = 0;
};

class NaiveLru {
 public:
  void insert(Slot slot, std::string_view, const EvictionFacts&) { line_.push_back(slot); }
  void touch(Slot slot) { line_.splice(line_.end(), line_, std::ranges::find(line_, slot)); }
  void erase(Slot slot, bool) { line_.remove(slot); }
  std::optional<Slot> victim() { return line_.empty() ? std::nullopt : std::optional(line_.front()); }

 private:
  std::list<Slot> line_;
};

class NaiveGdsf {
 public:
  void insert(Slot slot, std::string_view, const EvictionFacts& facts) {
    const auto size = static_cast<double>(facts.size_bytes);
    NaiveFile file{.slot = slot, .value = facts.fetch_seconds / size, .uses = 1, .last_use = now_++};
    file.worth = age_ + file.value;
    files_[slot] = file;
  }
  void touch(Slot slot) {
    NaiveFile& file = files_.at(slot);
    file.uses = std::min(32U, file.uses + 1);
    file.worth = age_ + file.uses * file.value;
    file.last_use = now_++;
  }
  void erase(Slot slot, bool evicted) {
    if (evicted) age_ = std::max(age_, files_.at(slot).worth);
    files_.erase(slot);
  }
  std::optional<Slot> victim() {
    const auto least = std::ranges::min_element(files_, [](const auto& a, const auto& b) {
      return std::pair(a.second.worth, a.second.last_use) < std::pair(b.second.worth, b.second.last_use);
    });
    return least == files_.end() ? std::nullopt : std::optional(least->first);
  }

 private:
  std::map<Slot, NaiveFile> files_;
  double age_ = 0;
  std::uint64_t now_ = 0;
};

class NaiveS3Fifo {
 public:
  explicit NaiveS3Fifo(std::uint64_t capacity) : small_limit_(capacity / 10), ghost_limit_(capacity - capacity / 10) {}
  void insert(Slot slot, std::string_view id, const EvictionFacts& facts) {
    const bool back = remembered_.erase(std::string(id)) > 0;
    (back ? main_ : small_).push_back({.slot = slot, .size_bytes = facts.size_bytes});
    ids_[slot] = id;
  }
  void touch(Slot slot) {
    for (auto* line : {&small_, &main_}) {
      for (auto& file : *line) {
        if (file.slot == slot) file.uses = std::min(3U, file.uses + 1);
      }
    }
  }
  void erase(Slot slot, bool evicted) {
    const auto is_it = [&](const NaiveFile& file) { return file.slot == slot; };
    if (const auto found = std::ranges::find_if(small_, is_it); evicted && found != small_.end()) {
      ghosts_.emplace_back(ids_[slot], found->size_bytes);
      remembered_[ids_[slot]] = ++number_;
      numbers_.push_back(number_);
      while (ghost_bytes() > ghost_limit_ || ghosts_.size() > 16 + small_.size() + main_.size()) {
        const auto& id = ghosts_.front().first;
        if (remembered_.contains(id) && remembered_[id] == numbers_.front()) remembered_.erase(id);
        ghosts_.pop_front();
        numbers_.pop_front();
      }
    }
    small_.remove_if(is_it);
    main_.remove_if(is_it);
  }
  std::optional<Slot> victim() {
    for (;;) {
      if (!small_.empty() && (bytes(small_) > small_limit_ || main_.empty())) {
        if (small_.front().uses <= 1) return small_.front().slot;
        small_.front().uses = 0;
        main_.splice(main_.end(), small_, small_.begin());
      } else if (!main_.empty()) {
        if (main_.front().uses == 0) return main_.front().slot;
        --main_.front().uses;
        main_.splice(main_.end(), main_, main_.begin());
      } else {
        return std::nullopt;
      }
    }
  }

 private:
  static std::uint64_t bytes(const std::list<NaiveFile>& line) {
    std::uint64_t sum = 0;
    for (const auto& file : line) sum += file.size_bytes;
    return sum;
  }
  std::uint64_t ghost_bytes() const {
    std::uint64_t sum = 0;
    for (const auto& [id, size] : ghosts_) sum += size;
    return sum;
  }
  const std::uint64_t small_limit_, ghost_limit_;
  std::list<NaiveFile> small_, main_;
  std::map<Slot, std::string> ids_;
  std::list<std::pair<std::string, std::uint64_t>> ghosts_;
  std::list<std::uint64_t> numbers_;
  std::map<std::string, std::uint64_t> remembered_;
  std::uint64_t number_ = 0;
};

template <class Naive>
void compare_on_random_uses(std::string_view name, Naive naive, unsigned seed) {
  constexpr Slot slots = 40;
  const auto policy = make_eviction_policy(name, 2000).value();
  std::mt19937 random(seed);
  std::map<Slot, std::string> stored;
  for (int step = 0; step < 20000; ++step) {
    const Slot slot = random() % slots;
    const auto choice = random() % 100;
    if (choice < 50 && stored.contains(slot)) {
      policy->touch(slot);
      naive.touch(slot);
    } else if (choice < 55 && stored.contains(slot)) {
      policy->erase(slot, false);
      naive.erase(slot, false);
      stored.erase(slot);
    } else if (choice < 80 && !stored.contains(slot)) {
      // Few ids, so that what left comes back, and in another slot.
      std::string id = "image-" + std::to_string(random() % 60);
      if (std::ranges::any_of(stored, [&](const auto& item) { return item.second == id; })) continue;
      const EvictionFacts facts{.size_bytes = 1 + random() % 300, .fetch_seconds = 1.0 + random() % 7, .uses = 0};
      policy->insert(slot, id, facts);
      naive.insert(slot, id, facts);
      stored[slot] = std::move(id);
    } else if (choice >= 80) {
      const auto victim = policy->victim();
      ASSERT_EQ(victim, naive.victim()) << name << ", seed " << seed << ", step " << step;
      if (!victim) continue;
      policy->erase(*victim, true);
      naive.erase(*victim, true);
      stored.erase(*victim);
    }
  }
}

TEST(Eviction, RandomUsesEndAsInTheNaiveModel) {
  for (unsigned seed = 1; seed <= 5; ++seed) {
    compare_on_random_uses("lru", NaiveLru(), seed);
    compare_on_random_uses("gdsf", NaiveGdsf(), seed);
    compare_on_random_uses("s3fifo", NaiveS3Fifo(2000), seed);
  }
}

}  // namespace
}  // namespace imagecache::image_cache
