// Makes oracle.json, beside which our trees, tiles, proofs and notes are held:
//
//	go mod init oracle && go get golang.org/x/mod@v0.42.0 && go run oracle.go >oracle.json
//
// Leaf n is n in decimal. Digests are SHA-256 over concatenated hashes; that of tiles is
// over path, newline and bytes of each, level by level.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const leaves = 70_000

type proof struct {
	From   int64    `json:"from"`
	Size   int64    `json:"size"`
	Hashes []string `json:"hashes"`
}

func main() {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, index := range indexes {
			out = append(out, stored[index])
		}
		return out, nil
	})
	for n := range int64(leaves) {
		hashes := must(tlog.StoredHashes(n, []byte(fmt.Sprint(n)), reader))
		stored = append(stored, hashes...)
	}

	// Every proof of every tree of 1 to 40 and 250 to 270 leaves, size by size.
	inclusion, consistency, roots := sha256.New(), sha256.New(), sha256.New()
	for size := int64(1); size <= 270; size++ {
		if size > 40 && size < 250 {
			continue
		}
		root := must(tlog.TreeHash(size, reader))
		roots.Write(root[:])
		for from := range size {
			for _, hash := range must(tlog.ProveRecord(size, from, reader)) {
				inclusion.Write(hash[:])
			}
			if from > 0 {
				for _, hash := range must(tlog.ProveTree(size, from, reader)) {
					consistency.Write(hash[:])
				}
			}
		}
	}

	out := map[string]any{
		"leaves":      leaves,
		"root":        must(tlog.TreeHash(leaves, reader)).String(),
		"roots":       hex.EncodeToString(roots.Sum(nil)),
		"inclusion":   hex.EncodeToString(inclusion.Sum(nil)),
		"consistency": hex.EncodeToString(consistency.Sum(nil)),
	}
	var included, consistent []proof
	for _, from := range []int64{0, 255, 256, 40_000, 65_535, 65_536, 69_999} {
		included = append(included, proof{from, leaves, texts(must(tlog.ProveRecord(leaves, from, reader)))})
		if from > 0 {
			consistent = append(consistent, proof{from, leaves, texts(must(tlog.ProveTree(leaves, from, reader)))})
		}
	}
	out["included"], out["consistent"] = included, consistent

	// Go writes the height into the path, C2SP doesn't.
	tiles := sha256.New()
	for _, t := range tlog.NewTiles(8, 0, leaves) {
		fmt.Fprintln(tiles, strings.Replace(t.Path(), "tile/8/", "tile/", 1))
		tiles.Write(must(tlog.ReadTileData(t, reader)))
	}
	out["tiles"] = hex.EncodeToString(tiles.Sum(nil))

	var paths []any
	for _, t := range []tlog.Tile{{8, 0, 1234067, 256}, {8, 3, 999, 1}, {8, 7, 0, 127}, {8, 1, 1000, 255}} {
		paths = append(paths, []any{t.L, t.N, t.W, strings.Replace(t.Path(), "tile/8/", "tile/", 1)})
	}
	out["paths"] = paths

	seed := sha256.Sum256([]byte("oracle"))
	name := "log.example.com/oracle"
	vkey := must(note.NewEd25519VerifierKey(name, ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)))
	id := strings.Split(vkey, "+")[1]
	skey := "PRIVATE+KEY+" + name + "+" + id + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed[:]...))
	text := fmt.Sprintf("%s\n%d\n%s\n", name, leaves, out["root"])
	signed := must(note.Sign(&note.Note{Text: text}, must(note.NewSigner(skey))))
	out["vkey"], out["skey"], out["checkpoint"] = vkey, skey, string(signed)

	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(out); err != nil {
		panic(err)
	}
}

func texts(hashes []tlog.Hash) []string {
	var out []string
	for _, hash := range hashes {
		out = append(out, hash.String())
	}
	return out
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
