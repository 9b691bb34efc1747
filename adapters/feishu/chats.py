class Chats:
    def __init__(self, api, clock):
        self.api = api
        self.clock = clock
