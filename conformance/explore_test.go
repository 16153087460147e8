package conformance
import ("testing";"context";"time";"fmt"
 "rotator/internal/fakeaws/conformance")
func TestExplore(t *testing.T){
 for _, s := range servers() { t.Run(s.name, func(t *testing.T){
  if l:=s.lacking(); l!="" { t.Skip(l) }
  e:=start(t,s)
  for _, v := range s.services {
   var cs []conformance.Case
   switch v { case kmsService: cs=conformance.KMSCases(config(e)); case s3Service: cs=conformance.S3Cases(config(e),true); default: cs=conformance.DynamoDBCases(config(e)) }
   for _, c := range cs {
     ctx,cancel:=context.WithTimeout(t.Context(), 2*time.Minute); b:=time.Now()
     m:=c.Try(ctx); cancel()
     d:=time.Since(b)
     if len(m)==0 { if d>2*time.Second {fmt.Println("slow",c.Name,d)}; continue }
     fmt.Printf("@ %s %s %s (%s)\n", s.name, v, c.Name,d.Round(time.Millisecond)); for _, x:= range m { fmt.Printf("     %s\n", x) }
   }
  }
 })}
}
