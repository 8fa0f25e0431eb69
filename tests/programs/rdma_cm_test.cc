// SPDX-License-Identifier: Apache-2.0
// What stock librdmacm makes of soft0's rdma_cm, call by call: run by `verbena run`, both ends in this
// process unless a test says otherwise. The same tests run on SoftRoCE, at VERBENA_RXE_ADDRESS.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

bool on_soft0() {
  return std::getenv("VERBENA_TEST_RXE") == nullptr;
}
std::string address() {
  const char* const real = on_soft0() ? nullptr : std::getenv("VERBENA_RXE_ADDRESS");
  return real ? real : "127.0.0.1";
}

sockaddr_in at(const std::string& host, std::uint16_t port) {
  sockaddr_in ip{};
  ip.sin_family = AF_INET;
  ip.sin_port = htons(port);
  EXPECT_EQ(::inet_pton(AF_INET, host.c_str(), &ip.sin_addr), 1);
  return ip;
}
sockaddr* raw(sockaddr_in& ip) {
  return reinterpret_cast<sockaddr*>(&ip);
}

class Channel {
 public:
  Channel() : channel_(rdma_create_event_channel()) { EXPECT_NE(channel_, nullptr) << std::strerror(errno); }
  ~Channel() { rdma_destroy_event_channel(channel_); }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  rdma_event_channel* get() const { return channel_; }

  bool is_readable(int timeout_ms) const {
    pollfd what{channel_->fd, POLLIN, 0};
    return ::poll(&what, 1, timeout_ms) == 1;
  }
  /// The next event, acknowledged; `then` sees it before.
  template <class Act>
  rdma_cm_event_type next(Act then) const {
    constexpr int patience_ms = 20'000;
    EXPECT_TRUE(is_readable(patience_ms)) << "no event came";
    rdma_cm_event* event = nullptr;
    if (rdma_get_cm_event(channel_, &event) != 0) {
      ADD_FAILURE() << std::strerror(errno);
      return RDMA_CM_EVENT_DEVICE_REMOVAL;
    }
    const rdma_cm_event_type kind = event->event;
    then(*event);
    EXPECT_EQ(rdma_ack_cm_event(event), 0);
    return kind;
  }
  rdma_cm_event_type next() const {
    return next([](const rdma_cm_event&) {});
  }

 private:
  rdma_event_channel* channel_;
};

struct IdDestroyer {
  void operator()(rdma_cm_id* id) const {
    if (id->qp) rdma_destroy_qp(id);
    EXPECT_EQ(rdma_destroy_id(id), 0);
  }
};
using Id = std::unique_ptr<rdma_cm_id, IdDestroyer>;

Id create(const Channel& channel, rdma_port_space space = RDMA_PS_TCP) {
  rdma_cm_id* id = nullptr;
  EXPECT_EQ(rdma_create_id(channel.get(), &id, nullptr, space), 0) << std::strerror(errno);
  return Id(id);
}

std::uint16_t listen_at(rdma_cm_id& id, const std::string& host, std::uint16_t port = 0, int backlog = 8) {
  sockaddr_in ip = at(host, port);
  EXPECT_EQ(rdma_bind_addr(&id, raw(ip)), 0) << std::strerror(errno);
  EXPECT_EQ(rdma_listen(&id, backlog), 0) << std::strerror(errno);
  return ntohs(rdma_get_src_port(&id));
}

void add_queue_pair(rdma_cm_id& id) {
  ibv_qp_init_attr wanted{};
  wanted.cap = {4, 4, 1, 1, 0};
  wanted.qp_type = id.qp_type;
  ASSERT_EQ(rdma_create_qp(&id, nullptr, &wanted), 0) << std::strerror(errno);
}

Id prepare(const Channel& channel, const std::string& host, std::uint16_t port,
           rdma_port_space space = RDMA_PS_TCP) {
  Id id = create(channel, space);
  sockaddr_in ip = at(host, port);
  EXPECT_EQ(rdma_resolve_addr(id.get(), nullptr, raw(ip), 2000), 0) << std::strerror(errno);
  EXPECT_EQ(channel.next(), RDMA_CM_EVENT_ADDR_RESOLVED);
  EXPECT_EQ(rdma_resolve_route(id.get(), 2000), 0) << std::strerror(errno);
  EXPECT_EQ(channel.next(), RDMA_CM_EVENT_ROUTE_RESOLVED);
  add_queue_pair(*id);
  return id;
}

rdma_conn_param with(const std::string& words) {
  rdma_conn_param parameters{};
  parameters.private_data = words.data();
  parameters.private_data_len = static_cast<std::uint8_t>(words.size());
  parameters.responder_resources = parameters.initiator_depth = 1;
  parameters.retry_count = 6;
  parameters.rnr_retry_count = 7;
  return parameters;
}

std::string words_of(const void* data, std::uint8_t length) {
  const std::string all(static_cast<const char*>(data), length);
  return all.substr(0, all.find('\0'));
}
std::string words_of(const rdma_conn_param& conn) {
  return words_of(conn.private_data, conn.private_data_len);
}

/// A listener and one end on its way to it, whose request has come.
class Meeting : public ::testing::Test {
 protected:
  void SetUp() override {
    port_ = listen_at(*listener_, address());
    active_ = prepare(active_channel_, address(), port_);
  }

  void request(const std::string& words = "hello") {
    rdma_conn_param parameters = with(words);
    ASSERT_EQ(rdma_connect(active_.get(), &parameters), 0) << std::strerror(errno);
    ASSERT_EQ(passive_channel_.next([&](const rdma_cm_event& event) {
      passive_.reset(event.id);
      EXPECT_EQ(event.listen_id, listener_.get());
      EXPECT_EQ(words_of(event.param.conn), words);
    }),
              RDMA_CM_EVENT_CONNECT_REQUEST);
  }
  void accept(const std::string& words = "welcome") {
    add_queue_pair(*passive_);
    rdma_conn_param parameters = with(words);
    ASSERT_EQ(rdma_accept(passive_.get(), &parameters), 0) << std::strerror(errno);
    ASSERT_EQ(active_channel_.next(
                  [&](const rdma_cm_event& event) { EXPECT_EQ(words_of(event.param.conn), words); }),
              RDMA_CM_EVENT_ESTABLISHED);
    ASSERT_EQ(passive_channel_.next(), RDMA_CM_EVENT_ESTABLISHED);
  }

  Channel passive_channel_;
  Channel active_channel_;
  Id listener_ = create(passive_channel_);
  std::uint16_t port_ = 0;
  Id active_;
  Id passive_;
};

// ---- It works ----

TEST_F(Meeting, PrivateDataTravelsBothWaysAndBothEndsBecomeReadyToSend) {
  request();
  accept();
  for (rdma_cm_id* const id : {active_.get(), passive_.get()}) {
    ibv_qp_attr attributes{};
    ibv_qp_init_attr init{};
    ASSERT_EQ(ibv_query_qp(id->qp, &attributes, IBV_QP_STATE, &init), 0);
    EXPECT_EQ(attributes.qp_state, IBV_QPS_RTS);
  }
  EXPECT_EQ(rdma_get_src_port(active_.get()), rdma_get_dst_port(passive_.get()));
  EXPECT_EQ(ntohs(rdma_get_dst_port(active_.get())), port_);
}

TEST_F(Meeting, AMessageGoesThrough) {
  request();
  accept();
  std::array<char, 64> from{"through rdma_cm"};
  std::array<char, 64> into{};
  ibv_mr* const from_mr = ibv_reg_mr(active_->pd, from.data(), from.size(), 0);
  ibv_mr* const into_mr = ibv_reg_mr(passive_->pd, into.data(), into.size(), IBV_ACCESS_LOCAL_WRITE);
  ibv_sge into_piece{reinterpret_cast<std::uintptr_t>(into.data()), 64, into_mr->lkey};
  ibv_recv_wr receive{};
  receive.sg_list = &into_piece;
  receive.num_sge = 1;
  ibv_recv_wr* bad_receive = nullptr;
  ASSERT_EQ(ibv_post_recv(passive_->qp, &receive, &bad_receive), 0);
  ibv_sge from_piece{reinterpret_cast<std::uintptr_t>(from.data()), 64, from_mr->lkey};
  ibv_send_wr send{};
  send.sg_list = &from_piece;
  send.num_sge = 1;
  send.opcode = IBV_WR_SEND;
  send.send_flags = IBV_SEND_SIGNALED;
  ibv_send_wr* bad_send = nullptr;
  ASSERT_EQ(ibv_post_send(active_->qp, &send, &bad_send), 0);
  ibv_wc done{};
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (ibv_poll_cq(passive_->recv_cq, 1, &done) == 0)
    ASSERT_LT(std::chrono::steady_clock::now(), end) << "the message hasn't come";
  EXPECT_EQ(done.status, IBV_WC_SUCCESS);
  EXPECT_STREQ(into.data(), "through rdma_cm");
  rdma_destroy_qp(passive_.get());
  rdma_destroy_qp(active_.get());
  EXPECT_EQ(ibv_dereg_mr(from_mr), 0);
  EXPECT_EQ(ibv_dereg_mr(into_mr), 0);
}

TEST_F(Meeting, DisconnectingIsHeardOnceAtBothEnds) {
  request();
  accept();
  ASSERT_EQ(rdma_disconnect(active_.get()), 0);
  EXPECT_EQ(passive_channel_.next(), RDMA_CM_EVENT_DISCONNECTED);
  ASSERT_EQ(rdma_disconnect(passive_.get()), 0);
  EXPECT_EQ(active_channel_.next(), RDMA_CM_EVENT_DISCONNECTED);
  EXPECT_FALSE(active_channel_.is_readable(0));
}

TEST_F(Meeting, WhoDestroysItsIdDisconnectsTheOther) {
  request();
  accept();
  active_.reset();
  EXPECT_EQ(passive_channel_.next(), RDMA_CM_EVENT_DISCONNECTED);
}

TEST_F(Meeting, AnIdMovesToAnotherChannelWithTheEventsThatWait) {
  request();
  accept();
  Channel other;
  ASSERT_EQ(rdma_migrate_id(passive_.get(), other.get()), 0) << std::strerror(errno);
  ASSERT_EQ(rdma_disconnect(active_.get()), 0);
  EXPECT_EQ(other.next(), RDMA_CM_EVENT_DISCONNECTED);
  EXPECT_FALSE(passive_channel_.is_readable(0));
  passive_.reset();  // before its channel
}

TEST_F(Meeting, DatagramsEndsGetTheAddressOfTheService) {
  Channel channel;
  Id service = create(channel, RDMA_PS_UDP);
  const std::uint16_t port = listen_at(*service, address());
  Id asking = prepare(active_channel_, address(), port, RDMA_PS_UDP);
  rdma_conn_param parameters = with("who?");
  ASSERT_EQ(rdma_connect(asking.get(), &parameters), 0) << std::strerror(errno);
  Id serving;
  ASSERT_EQ(channel.next([&](const rdma_cm_event& event) {
    serving.reset(event.id);
    EXPECT_EQ(words_of(event.param.ud.private_data, event.param.ud.private_data_len), "who?");
  }),
            RDMA_CM_EVENT_CONNECT_REQUEST);
  add_queue_pair(*serving);
  parameters = with("me");
  parameters.qp_num = serving->qp->qp_num;
  ASSERT_EQ(rdma_accept(serving.get(), &parameters), 0) << std::strerror(errno);
  ASSERT_EQ(active_channel_.next([&](const rdma_cm_event& event) {
    EXPECT_EQ(event.param.ud.qp_num, serving->qp->qp_num);
    EXPECT_EQ(event.param.ud.qkey, RDMA_UDP_QKEY);
    EXPECT_EQ(words_of(event.param.ud.private_data, event.param.ud.private_data_len), "me");
    ibv_ah_attr to = event.param.ud.ah_attr;
    ibv_ah* const handle = ibv_create_ah(asking->pd, &to);
    ASSERT_NE(handle, nullptr) << std::strerror(errno);
    EXPECT_EQ(ibv_destroy_ah(handle), 0);
  }),
            RDMA_CM_EVENT_ESTABLISHED);
}

// ---- It doesn't ----

TEST_F(Meeting, ARejectionBringsItsReasonAndItsWords) {
  request();
  const std::string words = "not today";
  ASSERT_EQ(rdma_reject(passive_.get(), words.data(), static_cast<std::uint8_t>(words.size())), 0);
  EXPECT_EQ(active_channel_.next([&](const rdma_cm_event& event) {
    constexpr int by_consumer = 28;
    EXPECT_EQ(event.status, by_consumer);
    EXPECT_EQ(words_of(event.param.conn), words);
  }),
            RDMA_CM_EVENT_REJECTED);
}

TEST_F(Meeting, WhereNobodyListensAConnectionIsRejected) {
  listener_.reset();
  rdma_conn_param parameters = with("anyone?");
  ASSERT_EQ(rdma_connect(active_.get(), &parameters), 0);
  EXPECT_EQ(active_channel_.next([](const rdma_cm_event& event) {
    constexpr int no_such_service = 8;
    EXPECT_EQ(event.status, no_such_service);
  }),
            RDMA_CM_EVENT_REJECTED);
}

TEST_F(Meeting, ARequestEndsWithTheListenerThatHasNotAnsweredIt) {
  rdma_conn_param parameters = with("hello");
  ASSERT_EQ(rdma_connect(active_.get(), &parameters), 0);
  ASSERT_TRUE(passive_channel_.is_readable(20'000));
  listener_.reset();
  EXPECT_EQ(active_channel_.next(), RDMA_CM_EVENT_REJECTED);
}

TEST_F(Meeting, AcceptingWhoHasGivenUpFails) {
  request();
  active_.reset();
  // On a device the news may still be under way.
  if (!on_soft0()) GTEST_SKIP();
  add_queue_pair(*passive_);
  rdma_conn_param parameters = with("");
  EXPECT_EQ(rdma_accept(passive_.get(), &parameters), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(Meeting, MorePrivateDataThanAMessageHoldsIsRefused) {
  rdma_conn_param parameters = with(std::string(57, 'x'));
  EXPECT_EQ(rdma_connect(active_.get(), &parameters), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Addresses, APortThatIsTakenIsInUse) {
  Channel channel;
  const Id first = create(channel);
  const std::uint16_t port = listen_at(*first, address());
  const Id second = create(channel);
  sockaddr_in same = at(address(), port);
  EXPECT_EQ(rdma_bind_addr(second.get(), raw(same)), -1);
  EXPECT_EQ(errno, EADDRINUSE);
  sockaddr_in any = at("0.0.0.0", port);
  EXPECT_EQ(rdma_bind_addr(second.get(), raw(any)), -1);
  EXPECT_EQ(errno, EADDRNOTAVAIL);
  const Id datagrams = create(channel, RDMA_PS_UDP);
  EXPECT_EQ(rdma_bind_addr(datagrams.get(), raw(same)), 0) << "another port space: " << std::strerror(errno);
}

TEST(Addresses, AnAddressOfAnotherHostCanNotBeBoundAndIsNotFound) {
  if (!on_soft0()) GTEST_SKIP() << "there it may be behind a cable";
  Channel channel;
  const Id id = create(channel);
  sockaddr_in elsewhere = at("203.0.113.77", 7471);
  EXPECT_EQ(rdma_bind_addr(id.get(), raw(elsewhere)), -1);
  EXPECT_EQ(errno, EADDRNOTAVAIL);
  ASSERT_EQ(rdma_resolve_addr(id.get(), nullptr, raw(elsewhere), 100), 0);
  EXPECT_EQ(channel.next([](const rdma_cm_event& event) { EXPECT_EQ(event.status, -EHOSTUNREACH); }),
            RDMA_CM_EVENT_ADDR_ERROR);
}

TEST(Addresses, AListenerOfTheUnspecifiedAddressIsMetAtAnyOfTheHosts) {
  Channel passive_channel;
  Channel channel;
  const Id listener = create(passive_channel);
  const std::uint16_t port = listen_at(*listener, "0.0.0.0");
  EXPECT_EQ(listener->verbs, nullptr) << "it belongs to no device";
  const Id active = prepare(channel, address(), port);
  rdma_conn_param parameters = with("hello");
  ASSERT_EQ(rdma_connect(active.get(), &parameters), 0);
  Id passive;
  EXPECT_EQ(passive_channel.next([&](const rdma_cm_event& event) { passive.reset(event.id); }),
            RDMA_CM_EVENT_CONNECT_REQUEST);
  ASSERT_TRUE(passive);
  EXPECT_NE(passive->verbs, nullptr) << "a connection does";
}

// ---- Events ----

TEST(Events, ANonBlockingChannelSaysThatNoneWaits) {
  Channel channel;
  ASSERT_EQ(::fcntl(channel.get()->fd, F_SETFL, O_NONBLOCK), 0);
  rdma_cm_event* event = nullptr;
  EXPECT_EQ(rdma_get_cm_event(channel.get(), &event), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_FALSE(channel.is_readable(0));
}

std::atomic<int> alarms = 0;

TEST(Events, ASignalEndsAWaitUnlessItsHandlerSaysOtherwise) {
  Channel channel;
  struct sigaction action {};
  action.sa_handler = [](int) { ++alarms; };
  struct sigaction before {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  const pthread_t waiter = ::pthread_self();
  std::atomic<bool> done = false;
  std::thread caller([&] {  // as often as it takes: the wait may not have begun yet
    while (!done) {
      ::pthread_kill(waiter, SIGUSR1);
      std::this_thread::yield();
    }
  });
  rdma_cm_event* event = nullptr;
  EXPECT_EQ(rdma_get_cm_event(channel.get(), &event), -1);
  EXPECT_EQ(errno, EINTR);
  done = true;
  caller.join();
  EXPECT_GT(alarms.load(), 0);
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(Events, AnIdIsNotDestroyedBeforeItsEventsAreAcknowledged) {
  Channel channel;
  rdma_cm_id* id = create(channel).release();
  sockaddr_in to = at(address(), 7471);
  ASSERT_EQ(rdma_resolve_addr(id, nullptr, raw(to), 2000), 0);
  ASSERT_TRUE(channel.is_readable(20'000));
  rdma_cm_event* event = nullptr;
  ASSERT_EQ(rdma_get_cm_event(channel.get(), &event), 0);
  std::atomic<bool> destroyed = false;
  std::thread destroyer([&] {
    EXPECT_EQ(rdma_destroy_id(id), 0);
    destroyed = true;
  });
  EXPECT_FALSE(destroyed);
  EXPECT_EQ(rdma_ack_cm_event(event), 0);
  destroyer.join();
}

// ---- Other processes ----

/// Serves one connection, and stays; what it writes to its output says how far it is.
int serve(std::uint16_t port) {
  const auto say_ready = [] { return ::write(STDOUT_FILENO, "x", 1) == 1; };
  Channel channel;
  const Id listener = create(channel);
  listen_at(*listener, address(), port);
  Id passive;
  if (!say_ready() || channel.next([&](const rdma_cm_event& event) { passive.reset(event.id); }) !=
                          RDMA_CM_EVENT_CONNECT_REQUEST)
    return 1;
  add_queue_pair(*passive);
  rdma_conn_param parameters = with("");
  if (rdma_accept(passive.get(), &parameters) != 0 || channel.next() != RDMA_CM_EVENT_ESTABLISHED ||
      !say_ready())
    return 1;
  return ::pause();  // to be killed
}

/// This program once more, as serve().
class Server {
 public:
  explicit Server(std::uint16_t port) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    const std::string word = std::to_string(port);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::execl("/proc/self/exe", "rdma_cm_test", "--serve", word.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    from_ = ends[0];
  }
  ~Server() {
    kill();
    ::close(from_);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  bool is_ready() const {
    pollfd what{from_, POLLIN, 0};
    char word = 0;
    return ::poll(&what, 1, 20'000) == 1 && ::read(from_, &word, 1) == 1;
  }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
  int from_ = -1;
};

// As Python's subprocess does.
TEST(OtherProcesses, AVforkChildThatClosesAllLeavesItsParentsChannel) {
  Channel channel;
  const Id listener = create(channel);
  const std::uint16_t port = listen_at(*listener, address());
  const int descriptor = channel.get()->fd;
  const pid_t child = ::vfork();
  if (child == 0) {
    ::close(descriptor);
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  const Id active = prepare(channel, address(), port);
  rdma_conn_param parameters = with("hello");
  ASSERT_EQ(rdma_connect(active.get(), &parameters), 0);
  EXPECT_EQ(channel.next(), RDMA_CM_EVENT_CONNECT_REQUEST);
}

// soft0's alone: a real channel is a file of the kernel's.
TEST(Replaced, AFileInAChannelsPlaceIsAFile) {
  if (!on_soft0()) GTEST_SKIP();
  rdma_event_channel* const channel = rdma_create_event_channel();
  ASSERT_NE(channel, nullptr);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  ASSERT_EQ(::dup2(ends[1], channel->fd), channel->fd);
  const std::string words = "as long as a command's header, or longer";
  EXPECT_EQ(::write(channel->fd, words.data(), words.size()), static_cast<ssize_t>(words.size()));
  std::string got(words.size(), ' ');
  EXPECT_EQ(::read(ends[0], got.data(), got.size()), static_cast<ssize_t>(words.size()));
  EXPECT_EQ(got, words);
  for (const int end : ends) ::close(end);
  rdma_destroy_event_channel(channel);
}

TEST(OtherProcesses, AKilledPeerDisconnects) {
  Channel channel;
  const std::uint16_t port = listen_at(*create(channel), address());  // free again, as its id is no more
  Server server(port);
  ASSERT_TRUE(server.is_ready());
  const Id active = prepare(channel, address(), port);
  rdma_conn_param parameters = with("hello");
  ASSERT_EQ(rdma_connect(active.get(), &parameters), 0);
  ASSERT_EQ(channel.next(), RDMA_CM_EVENT_ESTABLISHED);
  ASSERT_TRUE(server.is_ready());
  server.kill();
  EXPECT_EQ(channel.next(), RDMA_CM_EVENT_DISCONNECTED);
  // And nothing of it is left: its port is free.
  const Id next = create(channel);
  listen_at(*next, address(), port);
}

TEST(OtherProcesses, StrangersAtTheDoorAreNoConnections) {
  if (!on_soft0()) GTEST_SKIP() << "soft0's door";
  Channel channel;
  const Id listener = create(channel);
  const std::uint16_t port = listen_at(*listener, address());
  const std::string name =
      "verbena/rdma_cm/1/" + std::to_string(::geteuid()) + "/106/" + std::to_string(port) + "/" + address();
  for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{360}, std::size_t{4096}}) {
    const int stranger = ::socket(AF_UNIX, SOCK_SEQPACKET, 0);
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    std::copy(name.begin(), name.end(), to.sun_path + 1);
    ASSERT_EQ(::connect(stranger, reinterpret_cast<sockaddr*>(&to),
                        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())),
              0)
        << std::strerror(errno);
    const std::vector<char> garbage(length, '\xa5');
    if (length != 0) {
      ASSERT_GT(::send(stranger, garbage.data(), garbage.size(), 0), 0);
    }
    ::close(stranger);
  }
  Channel active_channel;
  const Id active = prepare(active_channel, address(), port);
  rdma_conn_param parameters = with("a friend");
  ASSERT_EQ(rdma_connect(active.get(), &parameters), 0);
  Id passive;
  EXPECT_EQ(channel.next([&](const rdma_cm_event& event) {
    passive.reset(event.id);
    EXPECT_EQ(words_of(event.param.conn), "a friend");
  }),
            RDMA_CM_EVENT_CONNECT_REQUEST);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && argv[1] == std::string("--serve"))
    return serve(static_cast<std::uint16_t>(std::stoi(argv[2])));
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
