// Images of which the origin names no digest: nothing can be held against what is on the disk, so nothing is guessed.
#include "image_cache/admissions.hpp"
#include "unit/image_cache/rig.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::uint64_t mib = 1 << 20;
const std::map<std::string, std::string> no_digest = {
    {"checksum", "null"}, {"os_hash_algo", "null"}, {"os_hash_value", "null"}};

TEST(NoDigest, AFileThatIsNoLongerTheOnePublishedIsFetchedAgain) {
  Rig rig;
  const auto content = Content::generated(mib, 1);
  const auto id = rig.origin.add({.content = content, .json = no_digest});
  const std::string bytes = rig.get_and_settle(id).value();
  EXPECT_EQ(rig.get(id).value(), bytes);
  EXPECT_EQ(rig.origin.downloads(id), 1U);
  write_file(rig.file(id), std::string(mib, 'x'));
  EXPECT_EQ(rig.get_and_settle(id).value(), bytes);
  EXPECT_EQ(rig.origin.downloads(id), 2U);
}

TEST(NoDigest, APartThatAnEarlierProcessLeftIsNotGoneOnWith) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(4 * mib, 2), .json = no_digest});
  auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) { s.file.gates.push_back({2 * mib, gate}); });
  auto reader = rig.open(id);
  ASSERT_TRUE(reader);
  ASSERT_TRUE(gate->wait_arrived());
  rig.cache->end_fills();
  gate->open();
  reader = fail(Errc::cancelled, "gone");
  rig.restart();
  // As a power failure leaves it: the size is there, the bytes are not.
  write_file(rig.file("incomplete/" + id), std::string(2 * mib, '\0'));
  rig.origin.script(id, [](ImageScript& s) { s.file.gates.clear(); });
  const auto bytes = rig.get_and_settle(id);
  ASSERT_TRUE(bytes) << bytes.error().message;
  EXPECT_EQ(bytes->find(std::string(4096, '\0')), std::string::npos);
  EXPECT_EQ(read_file(rig.file(id)), *bytes);
}

TEST(Admissions, AQuestionThatHangsIsJoinedByNobodyWhoComesMuchLater) {
  Admissions admissions(std::chrono::milliseconds(60'000), 10);
  const Admissions::Key key{.image_id = "i", .caller = "c"};
  const Admissions::Time now{};
  const auto first = admissions.begin(key, now);
  EXPECT_TRUE(first.is_first);
  EXPECT_FALSE(admissions.begin(key, now + std::chrono::seconds(1)).is_first);
  admissions.authorized(first.question, {});
  const auto later = admissions.begin(key, now + std::chrono::seconds(6));
  EXPECT_TRUE(later.is_first) << "the yes was given long before he asked";
  admissions.described(first.question, origin::ImageInfo{.id = "i", .status = "active"});
  EXPECT_TRUE(admissions.answer(*first.question)->has_value());
  EXPECT_FALSE(admissions.answer(*later.question).has_value());
  EXPECT_EQ(admissions.remembered(), 0U);
  EXPECT_FALSE(admissions.begin(key, now + std::chrono::seconds(7)).is_first) << "the later question is being asked";
}

TEST(Admissions, AtAStopNobodyWaitsForAnOriginThatIsSilent) {
  Rig rig;
  const auto id = rig.origin.add({.content = Content::generated(mib, 3)});
  auto gate = std::make_shared<Gate>();
  rig.origin.script(id, [&](ImageScript& s) { s.describe.hold_head = gate; });
  std::optional<Result<Admission>> answer;
  std::thread asker([&] { answer = rig.io->run(rig.cache->admit(id, base::internal_context())); });
  EXPECT_TRUE(gate->wait_arrived());
  rig.cache->end_fills();
  asker.join();
  ASSERT_TRUE(answer);
  ASSERT_FALSE(*answer);
  EXPECT_EQ(answer->error().code, Errc::unavailable);
  gate->open();
}

}  // namespace
}  // namespace imagecache::image_cache
