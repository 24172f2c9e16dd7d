// Connections without a whole request, in the order in which they began to wait for it: where all places are taken and
// somebody wants to be let in, it is seen at once who is to go. Private to the room.
//
// Two orders. One of those of whose request not a byte has come, at their first request or between two: a client that
// sees such a connection end asks again, if it wanted to ask at all. And one of those whose head (or TLS handshake)
// has begun and is not whole: a request would be lost, so they have more time, and go only where nobody is idle.
#pragma once

#include <boost/intrusive/list.hpp>
#include <chrono>
#include <mutex>

namespace imagecache::http {

class Connection;

/// Any thread. Nothing here depends on how many there are.
class IdleOrder {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class For { request, rest_of_head };

  /// A connection's own, for as long as it lives.
  class Place : public boost::intrusive::list_base_hook<> {
   public:
    explicit Place(Connection* owner) : connection(owner) {}
    Connection* const connection;

   private:
    friend class IdleOrder;
    enum class State { none, waiting, going };
    State state_ = State::none;
    For what_ = For::request;
    Time since_;
  };

  /// Who has waited less than this is not chosen.
  IdleOrder(std::chrono::milliseconds for_request, std::chrono::milliseconds for_rest)
      : for_request_(for_request), for_rest_(for_rest) {}

  /// From `now` on, which never goes back, the connection waits.
  void enter(Place& place, For what, Time now = std::chrono::steady_clock::now());
  /// What it waited for has come; or it goes, but not soon.
  void leave(Place& place);
  /// It goes now, for whatever reason, and is counted among those that go until leave().
  void go(Place& place);
  /// Who is to go, if fewer are going than are wanted; he is going from now on.
  Place* choose(unsigned wanted, Time now = std::chrono::steady_clock::now());
  bool is_going(const Place& place) const;

 private:
  using List = boost::intrusive::list<Place>;
  List& list_of(const Place& place) { return place.what_ == For::request ? requests_ : rests_; }
  void take_out(Place& place);

  const std::chrono::milliseconds for_request_;
  const std::chrono::milliseconds for_rest_;
  mutable std::mutex mutex_;
  // Protected by mutex_, as are the places in them. Who has waited for longest is the first.
  List requests_;
  List rests_;
  unsigned going_ = 0;
};

}  // namespace imagecache::http
