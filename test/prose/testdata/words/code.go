package a

import _ "nobody/who is"

type T struct {
	F int `json:"who, nobody"`
}

const s = "who"

func who() { who() }
