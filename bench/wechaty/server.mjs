// The Wechaty project's own puppet service, with its mock puppet in the place of WeChat.
//
//   node server.mjs PORT TOKEN [tls]
//
// It takes commands on standard input and tells what it sees on standard output, one JSON object a line.

import { createInterface } from "node:readline"
import { FileBox } from "file-box"
import { PuppetMock, mock } from "wechaty-puppet-mock"
import { PuppetServer } from "wechaty-puppet-service"

const [port, token, tls] = process.argv.slice(2)
const mocker = new mock.Mocker()
const puppet = new PuppetMock({ mocker })
const tell = (seen, more = {}) => console.log(JSON.stringify({ seen, ...more }))

const robot = mocker.createContact({ id: "wxid_robot", name: "Robot", type: 1 })
const ann = mocker.createContact({ id: "wxid_ann", name: "Ann", type: 1 })
const news = mocker.createContact({ id: "gh_news", name: "News", type: 2 })
const room = mocker.createRoom({ id: "1@chatroom", topic: "General", memberIdList: [robot.id, ann.id] })
const places = { robot, ann, news, room }

puppet.on("message", async ({ messageId }) => {
  const payload = await puppet.messagePayload(messageId)
  if (payload.talkerId === robot.id) {
    const file = mocker.cacheFileBoxPayload.get(messageId)
    const bytes = file ? (await FileBox.fromJSON(file).toBuffer()).length : 0
    tell("sent", { to: payload.roomId || payload.listenerId, text: payload.text || "", file: file?.name || "", bytes })
  }
})
puppet.on("stop", () => tell("the puppet was stopped"))
puppet.on("start", () => tell("the puppet was started"))

const commands = {
  scan: ({ qrcode, status }) => mocker.scan(qrcode, status),
  login: () => mocker.login(robot),
  logout: () => puppet.logout("from the phone"),
  say: ({ who, to, text, mention }) => places[who].say(text, mention ? [robot] : []).to(places[to]),
  file: ({ name, bytes }) => ann.say(FileBox.fromBase64(Buffer.alloc(bytes, "x").toString("base64"), name)).to(robot),
  topic: ({ text }) => room.topic(text).by(ann),
}

await puppet.start()
await new PuppetServer({ endpoint: `127.0.0.1:${port}`, puppet, token, tls: { disable: !tls } }).start()
tell("ready")
createInterface({ input: process.stdin }).on("line", (line) => {
  const { do: command, ...more } = JSON.parse(line)
  commands[command](more)
})
